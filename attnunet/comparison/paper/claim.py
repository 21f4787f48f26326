"""The CLAIM checklist for a paper about a comparison, filled in where the records know an answer."""

from collections.abc import Iterator
from dataclasses import dataclass

from attnunet.comparison.paper import data, methods, results, training
from attnunet.comparison.paper.facts import Protocol
from attnunet.comparison.paper.references import cited
from attnunet.comparison.paper.text import Sentence, code, finish, listed


@dataclass(frozen=True)
class Item:
    """An item of the checklist.

    Attributes:
        about: what it asks for, in words of our own.
        lacks: what the records do not know of it; "" if they may know all.
        sentences: the sentences of the methods section that answer it.
        files: the files that answer it.
    """

    about: str
    lacks: str = ""
    sentences: tuple[Sentence, ...] = ()
    files: tuple[str, ...] = ()


# fmt: off
ITEMS: tuple[Item, ...] = (
    Item("title names the kind of AI", "the title", (training.network,)),
    Item("abstract", "the abstract"),
    Item("background and intended role", "the background and the intended role"),
    Item("aims and hypotheses", "the aims and hypotheses"),
    Item("prospective or retrospective", "how the data were collected"),
    Item("goal of the study", "the goal of the study"),
    Item("sources of the data", "where, when and by whom the images were acquired", (data.source,)),
    Item("inclusion and exclusion", "why patients were included or excluded", (data.exclusions,)),
    Item("preprocessing", "what was done to the files before", methods.PREPARATION),
    Item("subsets of the data", "why these patients and slices", (data.rule, data.exclusions)),
    Item("de-identification", "how the files were de-identified"),
    Item("missing data", "why sequences are missing", (data.missing, results.undefined)),
    Item("image acquisition", "scanners and protocols", (data.sequences,)),
    Item("how the reference was made", "how the reference masks were drawn", (data.labels,)),
    Item("why this reference", "why these masks are the reference"),
    Item("who annotated", "the annotators and their qualification"),
    Item("annotation of the test", "how the test patients were annotated"),
    Item("agreement of annotators", "the agreement between and within annotators"),
    Item("assignment to the parts", "", methods.SPLIT),
    Item("level of disjointness", "", (data.leakage,)),
    Item("planned sample size", "how the number of patients was chosen", (results.patients,)),
    Item("the model", "", methods.NETWORK),
    Item("software", "", (results.software, results.statistics)),
    Item("initial weights", "", (training.start, training.seeds)),
    Item("training", "", methods.FIT),
    Item("choice of the final model", "", methods.CHOICE),
    Item("ensembles", "whether networks were combined after this comparison", (training.mirror,)),
    Item("performance metrics", "", methods.SCORES),
    Item("significance and uncertainty", "", methods.STATISTICS),
    Item("robustness", "analyses beyond the rows compared", (results.others,)),
    Item("explainability", "how predictions were explained"),
    Item("evaluation on internal data", "", (data.rule, results.patients)),
    Item("test on external data", "whether the data of a part came from elsewhere"),
    Item("trial registration", "a registration"),
    Item("patients included and excluded", "patients who were not in the files", (data.cohort, data.exclusions, data.sizes),
         ("cohort.csv",)),
    Item("characteristics of each part", "age, sex and diagnosis", (data.sizes,), ("cohort.csv",)),
    Item("performance with uncertainty", "", (results.first,), ("table.tex", "leaderboard.csv", "pairs.csv")),
    Item("diagnostic performance", "a diagnosis; masks were scored", (results.first,)),
    Item("analysis of failures", "why the worst cases failed", (), ("patients.csv",)),
    Item("limitations", "limits beyond those below"),
    Item("implications for practice", "the implications"),
    Item("protocol and technical details", "a published protocol", (), ("methods.md", "comparison.json")),
    Item("availability of software, model and data", "what was published", (results.software, data.source)),
    Item("funding", "the funding"),
)
# fmt: on
"""The 44 items of the update of 2024, in its order."""


def claim(protocol: Protocol) -> str:
    """Return the text of claim.md."""
    source = "CLAIM (Mongan et al. 2020), in the numbers of its update (Tejani et al. 2024)"
    head = (
        f"# Checklist\n\nThe items of {source}, in words of our own, filled in from the records of the runs. Look the items "
        "up there before you submit a checklist.\n\n"
    )
    items = [
        f"{number}. **{finish(item.about)}** {' '.join(answer(item, protocol))}\n" for number, item in enumerate(ITEMS, 1)
    ]
    text = "".join(items)
    references = "".join(f"- {reference}\n" for reference in cited(source + text))
    return f"{head}{text}\n## Limits\n\n{methods.limits(protocol)}\n## References\n\n{references}"


def answer(item: Item, protocol: Protocol) -> Iterator[str]:
    """Yield the parts of the answer to an item."""
    known = methods.paragraph(item.sentences, protocol)
    if known:
        yield known
    if item.files:
        yield f"See {listed(map(code, item.files))}."
    if item.lacks:
        yield f"The record does not know: {item.lacks}."
    elif not known and not item.files:
        yield f"The record does not know: {item.about}."
