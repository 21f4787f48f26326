"""From masks to the rows of patients.csv, and from these rows to the summary of a run, under every common convention."""

from collections.abc import Mapping, Sequence

import numpy as np

from attnunet.metrics import catalog
from attnunet.metrics.counts import Counts
from attnunet.metrics.masks import Masks
from attnunet.metrics.scores import nan_mean
from attnunet.metrics.statistics import mean_interval

Row = Mapping[str, float | str]


def score_patient(masks: Masks) -> dict[str, float | str]:
    """Return a row of patients.csv: the patient, the number of slices, the number of slices with lesion, and every metric."""
    return {
        "patient": masks.patient,
        "slices": len(masks.reference),
        "lesion_slices": int(np.count_nonzero(masks.reference.any(axis=(1, 2)))),
        **{metric.name: np.asarray(metric.compute(masks)).item() for metric in catalog.METRICS},
    }


def summarize_patients(rows: Sequence[Row], resamples: int) -> dict[str, float]:
    """Return the mean of each metric over the patients for whom it is defined, and the number of these patients.

    A metric with a formula on counts also has a median, a 95 % bootstrap interval from `resamples` resamples, and the score of
    all voxels counted together; see `catalog.STATISTICS`. A metric is left out if a row lacks it, because an earlier version
    scored that patient.

    A patient has one row for each scan. Means are over scans. The bootstrap draws whole patients, each with all its scans.
    """
    tp, fp, fn, tn = (np.array([[sum(int(row[name]) for row in rows)]]) for name in ("tp", "fp", "fn", "tn"))
    total = Counts(("all",), (float("nan"),), tp, fp, fn, tn)
    patients = np.array([str(row["patient"]) for row in rows])
    values: dict[str, float] = {}
    for metric in catalog.METRICS:
        if not metric.averaged or any(row.get(metric.name, "") == "" for row in rows):
            continue
        scores = np.array([float(row[metric.name]) for row in rows])
        defined, owners = scores[~np.isnan(scores)], patients[~np.isnan(scores)]
        values |= {metric.name: nan_mean(defined), f"{metric.name}_patients": len(np.unique(owners))}
        if metric.overlap:
            low, high = mean_interval(defined, resamples, clusters=owners)
            values |= {
                f"{metric.name}_median": float(np.median(defined)) if defined.size else float("nan"),
                f"{metric.name}_ci_low": low,
                f"{metric.name}_ci_high": high,
                f"{metric.name}_pooled": metric.overlap(total).item(),
            }
    return values


def has_repeats(rows: Sequence[Row]) -> bool:
    """Return whether a patient has several rows in patients.csv, one for each scan."""
    return len({row["patient"] for row in rows}) < len(rows)


def summarize_slices(counts: Counts) -> dict[str, float]:
    """Return the means over slices, from the counts of all slices at one threshold. `catalog.STATISTICS` explains them."""
    lesion = (counts.tp + counts.fn)[:, 0] > 0
    values: dict[str, float] = {}
    for metric in catalog.METRICS:
        if metric.overlap:
            slices = metric.overlap(counts)[:, 0]
            values |= {
                f"{metric.name}_slice_lesion": nan_mean(slices[lesion]),
                f"{metric.name}_slice_empty_one": nan_mean(np.where(np.isnan(slices), 1, slices)),
                f"{metric.name}_all_background": float(np.mean(~lesion)),
            }
    return values
