"""Each patient's score as comparisons take it from patients.csv: of an error its size, of an undefined distance the worst."""

import math
from collections.abc import Mapping, Sequence

Table = Sequence[Mapping[str, str]]

SCORES = {
    **dict.fromkeys(("dice", "iou", "sensitivity", "specificity", "precision", "surface_dice"), 1),
    **dict.fromkeys(("lesion_recall", "lesion_precision", "lesion_f1"), 1),
    **dict.fromkeys(("hd95", "assd", "volume_error", "unmatched_slices", "lesions_false", "fp", "fn"), -1),
}
"""The columns of patients.csv that say how good a run is: 1 where the larger is the better, -1 where the nearer to 0."""
WORST = {"hd95": "hd95_worst", "assd": "assd_worst"}
"""Scores that are not defined for a lesion that was missed, and the columns that have a value then: see docs/scores.md."""


def find_lack(rows: Table, score: str) -> str:
    """Return what a table lacks that a comparison by a score needs, as a run's predicate; "" where it lacks nothing."""
    if any(score not in row for row in rows):
        return f"has no score {score}"
    if unknown := [row["patient"] for row in rows if is_undefined(row, score) and not row.get(WORST[score])]:
        return (
            f"has no worst-case value of {score}, which is not defined for {', '.join(unknown)}: it was scored by an earlier "
            "version; train it again, or compare another score, such as surface_dice"
        )
    return ""


def read_patients(rows: Table, score: str) -> tuple[dict[str, float], frozenset[str]]:
    """Return each patient's score, NaN where it has none, and the patients whose undefined distance counts as the worst.

    Where reference and prediction are both empty, the distance is 0, which is no worst value. The score of a patient with
    several scans is the mean over those that have one.
    """
    scans: dict[str, list[float]] = {}
    worst = set()
    for row in rows:
        value = float(row[WORST[score] if is_undefined(row, score) else score])
        scans.setdefault(row["patient"], []).append(abs(value) if SCORES[score] < 0 else value)
        if is_undefined(row, score) and value > 0:
            worst.add(row["patient"])
    return {patient: mean_defined(values) for patient, values in scans.items()}, frozenset(worst)


def mean_defined(values: Sequence[float]) -> float:
    """Return the mean of the values that are no NaN; NaN of none."""
    defined = [value for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan


def is_undefined(row: Mapping[str, str], score: str) -> bool:
    """Whether a score is a distance that is not defined."""
    return score in WORST and math.isnan(float(row[score]))
