"""The counts of true positives, false positives, false negatives and true negatives for each slice and threshold."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Counts:
    """Counts of pixels at native size. Each slice has a row and each threshold has a column.

    A pixel is predicted as lesion if its probability is at least the threshold.

    Attributes:
        patients: the name of each slice's patient.
        thresholds: the thresholds, ascending.
        tp, fp, fn, tn: the counts, int64 (slices, thresholds).
    """

    patients: tuple[str, ...]
    thresholds: tuple[float, ...]
    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    tn: np.ndarray

    def at(self, *thresholds: float) -> "Counts":
        """Return the counts at the given thresholds only."""
        column = [self.thresholds.index(threshold) for threshold in thresholds]
        return Counts(
            self.patients, thresholds, self.tp[:, column], self.fp[:, column], self.fn[:, column], self.tn[:, column]
        )

    def by_patient(self) -> "Counts":
        """Return the counts of whole volumes: one row for each patient, in alphabetical order."""
        names, rows = np.unique(self.patients, return_inverse=True)

        def total(counts: np.ndarray) -> np.ndarray:
            summed = np.zeros((len(names), counts.shape[1]), np.int64)
            np.add.at(summed, rows, counts)
            return summed

        tp, fp, fn, tn = (total(c) for c in (self.tp, self.fp, self.fn, self.tn))
        return Counts(tuple(names.tolist()), self.thresholds, tp, fp, fn, tn)

    def pooled(self) -> "Counts":
        """Return the counts of all pixels together, in one row."""
        tp, fp, fn, tn = (c.sum(axis=0, keepdims=True) for c in (self.tp, self.fp, self.fn, self.tn))
        return Counts(("all",), self.thresholds, tp, fp, fn, tn)


def count(
    patients: Sequence[str],
    probabilities: Iterable[np.ndarray],
    masks: Iterable[np.ndarray],
    thresholds: Sequence[float],
) -> Counts:
    """Return the counts at every threshold, in one pass over the probabilities.

    Args:
        patients: the patient of each slice.
        probabilities: one map (h, w) in [0, 1] for each slice.
        masks: the reference, one mask (h, w) of 0 and 1 for each slice.
        thresholds: the thresholds, ascending.

    Raises:
        ValueError: the thresholds do not ascend, there are none, a map and its mask differ in shape, or the numbers of
            patients, maps and masks differ.
    """
    edges = np.asarray(thresholds, np.float32)
    if len(edges) == 0 or np.any(np.diff(edges) <= 0):
        raise ValueError(f"thresholds must ascend, found {list(thresholds)}")
    above = []
    for _, probability, mask in zip(patients, probabilities, masks, strict=True):
        if probability.shape != mask.shape:
            raise ValueError(f"a prediction of {probability.shape} pixels for a mask of {mask.shape}")
        # `reached` holds the number of thresholds that each pixel reaches. One histogram counts background and lesion.
        reached = np.searchsorted(edges, probability.ravel().astype(np.float32), side="right")
        histogram = np.bincount(reached + (len(edges) + 1) * (mask.ravel() > 0), minlength=2 * (len(edges) + 1))
        above.append(histogram.reshape(2, -1)[:, ::-1].cumsum(axis=1)[:, ::-1])  # column k: at least k reached
    background, lesion = np.stack(above, axis=1)
    fp, tp = background[:, 1:], lesion[:, 1:]
    return Counts(tuple(patients), tuple(thresholds), tp, fp, lesion[:, :1] - tp, background[:, :1] - fp)


def count_masks(patient: str, prediction: np.ndarray, truth: np.ndarray) -> Counts:
    """Return the counts of a patient's slices from two masks (D, h, w) of 0 and 1, with 0.5 as the only threshold."""
    tp, predicted, lesion = (np.count_nonzero(mask, axis=(1, 2))[:, None] for mask in (prediction & truth, prediction, truth))
    pixels = truth[0].size
    return Counts((patient,) * len(truth), (0.5,), tp, predicted - tp, lesion - tp, pixels - predicted - lesion + tp)


def concatenate(parts: Iterable[Counts]) -> Counts:
    """Return the rows of all parts in one table, in the order of the parts. The thresholds are those of the first part."""
    found = list(parts)
    tp, fp, fn, tn = (np.concatenate([getattr(part, cell) for part in found]) for cell in ("tp", "fp", "fn", "tn"))
    return Counts(tuple(name for part in found for name in part.patients), found[0].thresholds, tp, fp, fn, tn)
