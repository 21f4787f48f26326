"""The scores that follow from counts of pixels, and the choice of the best threshold.

The counts tp, fp, fn and tn are the numbers of pixels that are true positives, false positives, false negatives and true
negatives (Taha and Hanbury 2015, doi 10.1186/s12880-015-0068-x). If the denominator of a score is 0, the score is undefined
and has the value NaN.
"""

import numpy as np

from attnunet.metrics.counts import Counts

Array = np.ndarray


def ratio(numerator: Array, denominator: Array) -> Array:
    """Return numerator / denominator, or NaN where the denominator is 0."""
    undefined = np.full(np.broadcast(numerator, denominator).shape, np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator != 0)


def dice(c: Counts) -> Array:
    """Return 2 tp / (2 tp + fp + fn), in [0, 1]; NaN where reference and prediction are both empty. Dice 1945."""
    return ratio(2 * c.tp, 2 * c.tp + c.fp + c.fn)


def iou(c: Counts) -> Array:
    """Return tp / (tp + fp + fn), in [0, 1]; NaN where reference and prediction are both empty. Jaccard 1912."""
    return ratio(c.tp, c.tp + c.fp + c.fn)


def sensitivity(c: Counts) -> Array:
    """Return tp / (tp + fn), the share of the lesion that was found, in [0, 1]; NaN where the reference is empty."""
    return ratio(c.tp, c.tp + c.fn)


def specificity(c: Counts) -> Array:
    """Return tn / (tn + fp), the share of the background that is left out, in [0, 1]; NaN where the reference is full."""
    return ratio(c.tn, c.tn + c.fp)


def precision(c: Counts) -> Array:
    """Return tp / (tp + fp), the share of the prediction that is lesion, in [0, 1]; NaN where the prediction is empty."""
    return ratio(c.tp, c.tp + c.fp)


def volume_error(c: Counts) -> Array:
    """Return (predicted volume - reference volume) / reference volume, in [-1, inf); NaN where the reference is empty."""
    return ratio(c.fp - c.fn, c.tp + c.fn)


def nan_mean(values: Array) -> float:
    """Return the mean of the values that are not NaN. If there are none, return NaN without a warning."""
    defined = values[~np.isnan(values)]
    return float(np.mean(defined)) if defined.size else float("nan")


def mean_dice_by_threshold(c: Counts) -> Array:
    """Return the mean volumetric Dice over patients at each threshold, (thresholds,); NaN where no Dice is defined."""
    return np.array([nan_mean(column) for column in dice(c.by_patient()).T])


def best_threshold(c: Counts) -> float:
    """Return the threshold with the highest mean volumetric Dice over patients.

    Ties go to the threshold closest to 0.5, then to the lower threshold. The result is 0.5 if Dice is undefined for every
    patient at every threshold.
    """
    scores = mean_dice_by_threshold(c)
    if np.isnan(scores).all():
        return 0.5
    best = np.flatnonzero(scores == np.nanmax(scores))
    # The distance is rounded, because 0.7 - 0.5 < 0.5 - 0.3 in floating-point numbers.
    return min((c.thresholds[i] for i in best), key=lambda t: (round(abs(t - 0.5), 9), t))
