"""From masks to patients.csv, and from its rows to the summary of a run, under every convention in use."""

from collections.abc import Mapping, Sequence

import numpy as np

from attnunet.metrics import catalog
from attnunet.metrics.counts import Counts
from attnunet.metrics.masks import Masks
from attnunet.metrics.scores import nan_mean
from attnunet.metrics.statistics import mean_interval

Row = Mapping[str, float | str]


def score_patient(masks: Masks) -> dict[str, float | str]:
    """Return a patient's row of patients.csv: name, number of slices, and every metric."""
    return {
        "patient": masks.patient,
        "slices": len(masks.reference),
        "lesion_slices": int(np.count_nonzero(masks.reference.any(axis=(1, 2)))),
        **{metric.name: np.asarray(metric.compute(masks)).item() for metric in catalog.METRICS},
    }


def summarize_patients(rows: Sequence[Row], resamples: int) -> dict[str, float]:
    """Return the mean of each metric over the patients, and what else is taken over patients, from their rows.

        dice                        the mean over the patients for whom the metric is defined; the same for every metric
        dice_patients               the number of these patients; the same for every metric
        dice_median                 the median over the same patients; the same for iou
        dice_ci_low, dice_ci_high   the 95 % bootstrap interval of the mean, from `resamples` resamples; the same for iou
        dice_pooled                 the score of all voxels counted together; the same for iou

    Rows of one patient are its scans: means are over scans, and the bootstrap draws patients with all their scans.

    A metric that a row lacks, because an earlier version scored the patient, is left out.
    """
    tp, fp, fn, tn = (np.array([[sum(int(row[name]) for row in rows)]]) for name in ("tp", "fp", "fn", "tn"))
    total = Counts(("all",), (float("nan"),), tp, fp, fn, tn)
    patients = np.array([str(row["patient"]) for row in rows])
    values: dict[str, float] = {}
    for metric in catalog.METRICS:
        if not metric.averaged or any(row.get(metric.name, "") == "" for row in rows):
            continue
        scores = np.array([float(row[metric.name]) for row in rows])
        defined = scores[~np.isnan(scores)]
        values |= {metric.name: nan_mean(defined), f"{metric.name}_patients": len(defined)}
        if metric.overlap:
            low, high = mean_interval(defined, resamples, clusters=patients[~np.isnan(scores)])
            values |= {
                f"{metric.name}_median": float(np.median(defined)) if defined.size else float("nan"),
                f"{metric.name}_ci_low": low,
                f"{metric.name}_ci_high": high,
                f"{metric.name}_pooled": metric.overlap(total).item(),
            }
    return values


def summarize_slices(counts: Counts) -> dict[str, float]:
    """Return the conventions that average over slices, from the counts of all slices at one threshold.

        dice_slice_lesion       the mean over the slices with a lesion in the reference
        dice_slice_empty_one    the mean over all slices, where both masks empty count 1
        dice_all_background     what a prediction of nothing scores under the row above

    The same for iou.
    """
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
