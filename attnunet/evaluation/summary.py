"""The lines that the terminal shows of a run: what it trains on, at its start; and the scores of a run that is reused."""

from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console

from attnunet.data.cache import Prepared
from attnunet.data.split import Split
from attnunet.evaluation import report
from attnunet.metrics.summary import has_repeats
from attnunet.tracking.records import Record

NETWORKS = {"none": (), "best": ("best",), "all": ("best", "last")}
"""The checkpoints that each value of `trainer.keep` keeps."""
WHOLE = ("smallest_lesion", "fill_holes")
"""The values of a summary that are whole numbers. MLflow stores all values as floats."""


@dataclass(frozen=True)
class Stored:
    """The scores of a part as the record of a run has them; see `patients.Scores`."""

    summary: Mapping[str, float]
    strata: list[dict[str, float | str]]
    nothing: bool
    repeated: bool


def describe_start(prepared: Prepared, split: Split, machine: str, no_gpu: str) -> str:
    """Return a line for each part of the split, and a line for the machine.

    Args:
        machine: what TensorFlow computes on.
        no_gpu: why TensorFlow uses no GPU; "" if it uses one.
    """
    lesions = prepared.lesion_pixels > 0
    rows = [
        (part, len(split.patients[part]), len(indices), int(lesions[list(indices)].sum()))
        for part, indices in split.parts.items()
        if indices  # without validation, the part is empty
    ]
    wide = [len(f"{max(column):,}") for column in list(zip(*rows, strict=True))[1:]]
    lines = [
        f"{part:8}{patients:{wide[0]},} patients, {slices:{wide[1]},} slices, {found:{wide[2]},} with a lesion"
        for part, patients, slices, found in rows
    ]
    return "\n".join([*lines, "; ".join(filter(None, [f"device  {machine}", no_gpu]))])


def print_reused(console: Console, record: Record, keep: str) -> None:
    """Print the scores of a finished run, and say which checkpoints it lacks of those that `trainer.keep` asks for."""
    print_stored(console, record)
    if lacking := [name for name in NETWORKS[keep] if not record.has(f"checkpoints/{name}.keras")]:
        files = " and ".join(f"checkpoints/{name}.keras" for name in lacking)
        console.print(
            f"trainer.keep={keep}: run {record.id} lacks {files}, because its trainer.keep was "
            f"{record.params.get('trainer.keep')}; resume=never trains it again"
        )


def print_stored(console: Console, record: Record) -> None:
    """Print the scores in the record of a run, with a column for each part that was scored; nothing if none was."""
    scores = {part: read_scores(record, part) for part in ("val", "test") if record.summary(part)}
    if scores:
        report.print_scores(console, scores, report.LEAKING if record.leaking else None)


def read_scores(record: Record, part: str) -> Stored:
    """Return the scores of a part from the record of a run. Some runs of earlier versions have no tables."""
    tables = {name: record.rows(name) if record.has(name) else [] for name in ("strata.csv", "patients.csv")}
    # In joined folds of an earlier version, strata.csv has no column `part`.
    strata, patients = ([row for row in rows if row.get("part", part) == part] for rows in tables.values())
    summary = {name: int(value) if name in WHOLE else value for name, value in record.summary(part).items()}
    nothing = bool(patients) and not any(int(row[count]) for row in patients for count in ("tp", "fp"))
    return Stored(summary, [{**row, "dice": float(row["dice"])} for row in strata], nothing, has_repeats(patients))
