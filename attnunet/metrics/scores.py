"""From counts to scores: one row a patient, then the summary under every convention in use.

With tp, fp, fn, tn the true and false positives and negatives in pixels (Taha and Hanbury 2015, doi
10.1186/s12880-015-0068-x). A score whose denominator is 0 is not defined and is NaN.
"""

from collections.abc import Mapping

import numpy as np

from attnunet.metrics.counts import Counts
from attnunet.metrics.statistics import mean_interval

Array = np.ndarray


def ratio(numerator: Array, denominator: Array) -> Array:
    """numerator / denominator, NaN where the denominator is 0."""
    undefined = np.full(np.broadcast(numerator, denominator).shape, np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator != 0)


def dice(c: Counts) -> Array:
    """2 tp / (2 tp + fp + fn), in [0, 1]; NaN where reference and prediction are both empty. Dice 1945."""
    return ratio(2 * c.tp, 2 * c.tp + c.fp + c.fn)


def iou(c: Counts) -> Array:
    """tp / (tp + fp + fn), in [0, 1]; NaN where reference and prediction are both empty. Jaccard 1912."""
    return ratio(c.tp, c.tp + c.fp + c.fn)


def sensitivity(c: Counts) -> Array:
    """tp / (tp + fn), the share of the lesion that was found; NaN where the reference is empty."""
    return ratio(c.tp, c.tp + c.fn)


def specificity(c: Counts) -> Array:
    """tn / (tn + fp), the share of the background left alone; NaN where the reference is full."""
    return ratio(c.tn, c.tn + c.fp)


def precision(c: Counts) -> Array:
    """tp / (tp + fp), the share of the prediction that is lesion; NaN where the prediction is empty."""
    return ratio(c.tp, c.tp + c.fp)


def volume_error(c: Counts) -> Array:
    """(predicted - reference volume) / reference volume, in [-1, inf); NaN where the reference is empty."""
    return ratio(c.fp - c.fn, c.tp + c.fn)


OVERLAPS = {"dice": dice, "iou": iou}
RATES = {
    "sensitivity": sensitivity,
    "specificity": specificity,
    "precision": precision,
    "volume_error": volume_error,
}


def patient_rows(c: Counts) -> list[dict[str, float | str]]:
    """The scores of each patient's volume at the one threshold of `c`, a row a patient."""
    volumes = c.by_patient()
    columns = {name: score(volumes)[:, 0] for name, score in {**OVERLAPS, **RATES}.items()}
    columns |= {name: getattr(volumes, name)[:, 0] for name in ("tp", "fp", "fn", "tn")}
    slices, with_lesion = (
        [sum(1 for p, n in zip(c.patients, counted, strict=True) if p == name and n) for name in volumes.patients]
        for counted in (np.ones(len(c.patients)), (c.tp + c.fn)[:, 0])
    )
    return [
        {
            "patient": patient,
            "slices": slices[row],
            "lesion_slices": with_lesion[row],
            **{name: values[row].item() for name, values in columns.items()},
        }
        for row, patient in enumerate(volumes.patients)
    ]


def summarize(c: Counts, resamples: int, owners: Mapping[str, str] | None = None) -> dict[str, float]:
    """Every convention of Dice and IoU under its own name, and the mean of each rate, at the one threshold of `c`.

        dice, dice_median, dice_ci_low, dice_ci_high   a volume a patient: mean, median, 95 % interval of the mean
        dice_patients                                  over how many patients these were taken, those not NaN; so for rates
        dice_pooled                                    all pixels counted together
        dice_slice_lesion                              mean over slices with a lesion in the reference
        dice_slice_empty_one                           mean over all slices; both empty counts 1
        dice_all_background                            what a prediction of nothing scores under the row above

    The same for iou. `resamples` is the number of the bootstrap's. Where `c` counts scans, `owners` tells the patient of
    each: the interval is then over patients.
    """
    volumes = c.by_patient()
    patients_of = np.array([(owners or {}).get(name, name) for name in volumes.patients])
    lesion = (c.tp + c.fn)[:, 0] > 0
    values: dict[str, float] = {}
    for name, score in OVERLAPS.items():
        patients, slices = score(volumes)[:, 0], score(c)[:, 0]
        defined = patients[~np.isnan(patients)]
        low, high = mean_interval(defined, resamples, clusters=patients_of[~np.isnan(patients)])
        values |= {
            name: nan_mean(defined),
            f"{name}_median": float(np.median(defined)) if defined.size else float("nan"),
            f"{name}_ci_low": low,
            f"{name}_ci_high": high,
            f"{name}_patients": len(defined),
            f"{name}_pooled": score(c.pooled())[0, 0].item(),
            f"{name}_slice_lesion": nan_mean(slices[lesion]),
            f"{name}_slice_empty_one": nan_mean(np.where(np.isnan(slices), 1, slices)),
            f"{name}_all_background": float(np.mean(~lesion)),
        }
    return values | mean_columns({name: score(volumes)[:, 0] for name, score in RATES.items()})


def mean_columns(columns: Mapping[str, Array]) -> dict[str, float]:
    """The mean of each column of patients' scores under its name, and as <name>_patients over how many it is defined."""
    values: dict[str, float] = {}
    for name, patients in columns.items():
        values |= {name: nan_mean(patients), f"{name}_patients": int(np.sum(~np.isnan(patients)))}
    return values


def nan_mean(values: Array) -> float:
    """The mean of the values that are defined; NaN, without a warning, of none."""
    defined = values[~np.isnan(values)]
    return float(np.mean(defined)) if defined.size else float("nan")


def mean_dice_by_threshold(c: Counts) -> Array:
    """(thresholds,): the mean of the patients' volumetric Dice at each threshold; NaN where it has none."""
    return np.array([nan_mean(column) for column in dice(c.by_patient()).T])


def best_threshold(c: Counts) -> float:
    """The threshold of the highest mean volumetric Dice; of equals, the one nearest to 0.5, then the lower.

    0.5 where Dice is defined for no patient at any threshold.
    """
    scores = mean_dice_by_threshold(c)
    if np.isnan(scores).all():
        return 0.5
    best = np.flatnonzero(scores == np.nanmax(scores))
    return min((c.thresholds[i] for i in best), key=lambda t: (round(abs(t - 0.5), 9), t))  # 0.7 - 0.5 < 0.5 - 0.3 in floats
