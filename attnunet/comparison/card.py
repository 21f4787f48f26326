"""The model card of the best row's model. It tells what the records of the runs tell, and nothing else."""

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from attnunet.comparison.pairs import Question, decimals, describe, plural
from attnunet.comparison.patients import mean_defined
from attnunet.comparison.rows import Row
from attnunet.comparison.table import Comparison
from attnunet.data.intensity import is_scaled
from attnunet.errors import UserError
from attnunet.tracking.records import Record

KAGGLE = "CC BY-NC-SA 4.0, as the run downloaded the LGG MRI segmentation data set from Kaggle"
DRAWN = "none; the images are drawn, and show no patient"
VERDICTS = 3
"""The number of verdicts on a card. MLflow's description of a version has room for 5,000 characters."""
PARTS = {"train": "training", "val": "validation patients", "test": "test patients"}
"""The names of the parts of a split in words."""
OTHERS = {"surface_dice": "surface Dice", "lesion_f1": "lesions, F1", "sensitivity": "sensitivity", "precision": "precision"}
"""The scores on a card besides Dice, with their names in words."""


class NoBest(UserError):
    """No run can be registered as the best. The message says why, and what is allowed."""


def choose_best(row: Row, question: Question) -> str:
    """Return the id of the run in the first row of a leaderboard that has the best mean score over the validation patients.

    Raises:
        NoBest: the row has no score, leaks, or joins folds, whose networks were validated on different patients.
    """
    if row.leaking:
        raise NoBest(f"register=best: the first row ({row.name}) trained on patients who are scored; allowed: other rows")
    if math.isnan(row.mean("val")):
        raise NoBest(f"register=best: no row has a defined {question.score} of the validation patients")
    if any(len(runs) > 1 for runs in row.seeds.values()):
        raise NoBest(
            f"register=best: the first row ({row.name}) joins folds, whose networks were validated on different patients; "
            "allowed: rows that are no cross-validation"
        )
    means = {run.id: mean_defined([*run.scores["val"].values()]) for run in row.runs}
    return max((run for run in means if not math.isnan(means[run])), key=lambda run: question.sign * means[run])


def card(record: Record, comparison: Comparison, source: str, notes: Sequence[str]) -> str:
    """Return the text of the card, in Markdown.

    Args:
        record: the run in the first row of `comparison` that is registered.
        comparison: the comparison that the run leads.
        source: the runs that were compared, in words.
        notes: are listed among the limits, after those of the comparison.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    facts = json.loads(record.text("checkpoints/predictor.json"))
    scored = [part for part in ("val", "test") if f"final/{part}/dice" in record.metrics]
    return environment.get_template("card.md").render(
        record=record,
        source=source,
        model=describe_model(record, facts),
        parts=[(PARTS[part], len(found), sum(map(len, found.values()))) for part, found in record.split["slices"].items()],
        licence=find_licence(record.config.data),
        scored=[PARTS[part] for part in scored],
        scores=list(list_scores({part: record.summary(part) for part in scored})),
        strata=list(list_strata(record.rows("strata.csv"), scored[-1])),
        rank=describe_rank(record, comparison),
        legend=comparison.legend if comparison.pairs else "",
        verdicts=list(list_verdicts(comparison)),
        limits=[*list_limits(facts["preparation"]), *comparison.notes(), *notes],
    )


def describe_model(record: Record, facts: Mapping[str, Any]) -> dict[str, str]:
    """Return the rows of the card's first table. `facts` is the content of predictor.json."""
    preparation, decision = facts["preparation"], facts["decision"]
    choices = " ".join(f"{group}={record.params[group]}" for group in ("model", "loss", "augment", "optimizer"))
    changed = ", with changes" if record.tags["git.dirty"] == "true" else ""
    commit = f"commit {record.tags['git.commit'][:12]}{changed}" if record.tags["git.commit"] else "an installed package"
    packages = ", ".join(f"{name} {record.tags[f'version.{name}']}" for name in ("tensorflow", "keras"))
    size, pixels, sequences = preparation["image_size"], preparation.get("pixel_size"), ", ".join(preparation["channels"])
    plane = preparation.get("plane", "axial")  # earlier versions knew no other plane, and no pixel size
    return {
        "network": f"`{choices}`",
        "input": f"{sequences}; {plane} slices; intensity `{preparation['intensity']}`",
        "size": f"{size} x {size} pixels" + (f" of {pixels:g} mm" if pixels else ""),
        "decision": f"threshold {decision['threshold']:g}, lesions of at least {decision['smallest_lesion']} voxels, "
        f"holes {'filled' if decision['fill_holes'] else 'kept'}, mirror image {'averaged' if facts['flip'] else 'not used'}",
        "trained": f"{time.strftime('%Y-%m-%d', time.gmtime(record.run.info.start_time / 1000))}, {commit}, {packages}",
        "command": f"`{record.tags['command']}`",
    }


def find_licence(data: Mapping[str, Any]) -> str:
    """Return the licence of the data, as far as the configuration of a run tells it."""
    if data.get("download"):
        return KAGGLE
    return {"attnunet.data.phantom.phantom": DRAWN}.get(data["_target_"], "unknown; the record of the run does not name it")


def list_scores(parts: Mapping[str, Mapping[str, float]]) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the table of scores: the name of a score, and its value in the summary of each part."""

    def cells(name: str) -> list[str]:
        return [decimals(summary.get(name, math.nan)) for summary in parts.values()]

    dice = zip(cells("dice"), cells("dice_ci_low"), cells("dice_ci_high"), strict=True)
    yield "patients", *(f"{summary['dice_patients']:.0f}" for summary in parts.values())
    yield "Dice, mean (95 % interval)", *(f"{mean} ({low} to {high})" if low else mean for mean, low, high in dice)
    yield "Dice, median", *cells("dice_median")
    yield from ((words, *cells(name)) for name, words in OTHERS.items())


def list_strata(rows: Sequence[Mapping[str, str]], part: str) -> Iterator[str]:
    """Yield the mean Dice of each group of patients in a part. A grouping with a single group is left out."""
    groups: dict[str, list[str]] = {}
    for row in rows:
        if row["part"] == part:
            text = f"{row['by']} {row['stratum']} {decimals(float(row['dice']))} ({row['dice_patients']})"
            groups.setdefault(row["by"], []).append(text)
    for found in groups.values():
        yield from found if len(found) > 1 else ()


def describe_rank(record: Record, comparison: Comparison) -> str:
    """Return a sentence on the place of the run in the leaderboard."""
    first, question = comparison.standings[0], comparison.question
    rows = plural(len(comparison.standings), "row")
    rank = f"{comparison.names[0]}: the first of {rows} by the mean {question.score} of the validation patients"
    seeds = len(first.row.seeds)
    return f"{rank}; seed {record.params['seed']} is the best of its {seeds} seeds." if seeds > 1 else f"{rank}."


def list_verdicts(comparison: Comparison) -> Iterator[str]:
    """Yield the verdicts on the first VERDICTS pairs of the first row, and the number of undecided pairs."""
    own = [pair for pair in comparison.pairs if pair.first == 0]
    for pair in own[:VERDICTS]:
        yield describe(pair, comparison.names[0], comparison.names[pair.second], list(comparison.remarks(pair)))
    if len(own) > VERDICTS:
        yield f"{plural(len(own) - VERDICTS, 'more pair')} on the page of the comparison."
    if undecided := sum(pair.verdict == "undecided" for pair in own):
        yield f"Undecided: {undecided} of {plural(len(own), 'pair')}. Another row may be as good or better."
    if not own:
        yield "There was no other row to compare with."


def list_limits(preparation: Mapping[str, Any]) -> Iterator[str]:
    """Yield the limits of every model that is prepared in this way."""
    yield "For research. This is no medical device, and it was not tried on patients in a clinic."
    yield "The scores hold for patients, scanners and sequences like those above. Others were not tried."
    if is_scaled(preparation["intensity"]):
        yield "Intensities are scaled over a whole volume. A single slice may get another mask than among its neighbours."
    if preparation.get("pixel_size"):
        yield "A volume needs the distances between its slices, rows and columns."
