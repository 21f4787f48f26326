"""Scores of patients for a comparison: errors lose their sign, and an undefined distance gets its worst-case value."""

import math
from collections.abc import Mapping, Sequence

from attnunet.metrics import catalog

Table = Sequence[Mapping[str, str]]


def find_lack(rows: Table, score: str) -> str:
    """Return what the table of a run lacks for a comparison by a score; "" if it lacks nothing.

    The result is the end of a sentence that begins with the name of the run.
    """
    if any(score not in row for row in rows):
        return f"has no score {score}"
    if unknown := [row["patient"] for row in rows if is_undefined(row, score) and not row.get(catalog.metric(score).worst)]:
        return (
            f"has no worst-case value of {score}, which is not defined for {', '.join(unknown)}: it was scored by an earlier "
            "version; train it again, or compare another score, such as surface_dice"
        )
    return ""


def read_patients(rows: Table, score: str) -> tuple[dict[str, float], frozenset[str]]:
    """Return the score of each patient, and the patients whose undefined distance counts as the worst.

    The first result has NaN for an undefined score. If reference and prediction are both empty, the distance is 0, which does
    not count as the worst. The score of a patient with several scans is the mean over the scans whose score is defined.
    """
    metric = catalog.metric(score)
    scans: dict[str, list[float]] = {}
    worst = set()
    for row in rows:
        value = float(row[metric.worst if is_undefined(row, score) else score])
        scans.setdefault(row["patient"], []).append(abs(value) if metric.better < 0 else value)
        if is_undefined(row, score) and value > 0:
            worst.add(row["patient"])
    return {patient: mean_defined(values) for patient, values in scans.items()}, frozenset(worst)


def mean_defined(values: Sequence[float]) -> float:
    """Return the mean of the values that are not NaN; NaN if there are no such values."""
    defined = [value for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan


def is_undefined(row: Mapping[str, str], score: str) -> bool:
    """Return whether a score is undefined in a row, and the metric has a worst case to replace it."""
    return catalog.metric(score).worst != "" and math.isnan(float(row[score]))
