"""The methods section of a paper about a comparison. Each sentence comes from the records of the runs."""

from attnunet.comparison.paper import data, results, training
from attnunet.comparison.paper.facts import Protocol
from attnunet.comparison.paper.references import cited
from attnunet.comparison.paper.text import Sentence, escape, finish

DATA = (data.source, data.cohort, data.exclusions, data.labels, data.missing)
PREPARATION = (data.plane, data.intensity, data.size, data.sequences)
SPLIT = (data.rule, data.sizes, data.leakage)
NETWORK = (
    *(training.other_tool, training.network, training.convolutions, training.filters, training.variants),
    *(training.parameters, training.start),
)
FIT = (
    *(training.loss, training.optimizer, training.averaging, training.length, training.sampler, training.augmentation),
    *(training.growth, training.seeds, training.precision),
)
CHOICE = (training.checkpoint, training.mirror, training.decision, training.chosen)
SCORES = (results.score, results.surfaces, results.lesions, results.undefined, results.patients, results.averages)
STATISTICS = (results.intervals, results.tests, results.verdicts)
RESULTS = (results.first, results.others)
SOFTWARE = (results.software, results.statistics, results.machines, results.duration)
SECTIONS: dict[str, tuple[Sentence, ...]] = {
    "Data": (*DATA, *PREPARATION),
    "Split": SPLIT,
    "Network": NETWORK,
    "Training": FIT,
    "Choice of the checkpoint and the decision": CHOICE,
    "Scores": SCORES,
    "Statistics": STATISTICS,
    "Result": RESULTS,
    "Software and hardware": SOFTWARE,
}
"""The sentences of methods.md, by their heading."""
HEAD = """# Methods

Made by attnunet from the records of the runs, as a draft for a methods section. Rows are those of table.md. "Varied" stands
before facts that differ among the rows. The records do not tell where the data come from, who annotated them, and what the
study is for.
"""


def paragraph(sentences: tuple[Sentence, ...], protocol: Protocol) -> str:
    """Return the sentences that the records know, one after the other."""
    return " ".join(text for sentence in sentences if (text := sentence(protocol)))


def limits(protocol: Protocol) -> str:
    """Return the notes on a comparison as a list in Markdown."""
    notes = (*protocol.comparison.notes(), *protocol.notes)
    return "".join(f"- {escape(finish(note.removesuffix('.')))}\n" for note in notes)


def methods(protocol: Protocol) -> str:
    """Return the text of methods.md."""
    found = {heading: paragraph(sentences, protocol) for heading, sentences in SECTIONS.items()}
    parts = [HEAD, *(f"## {heading}\n\n{text}\n" for heading, text in found.items() if text)]
    if notes := limits(protocol):
        parts.append(f"## Limits\n\n{notes}")
    parts.append("## References\n\n" + "".join(f"- {reference}\n" for reference in cited("\n".join(found.values()))))
    return "\n".join(parts)
