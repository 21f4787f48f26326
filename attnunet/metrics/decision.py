"""The decision, a threshold with post-processing that turns probabilities into a mask, and how it is chosen."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, product

import numpy as np
from scipy import ndimage

from attnunet.metrics.components import bounding_box, components
from attnunet.metrics.counts import Counts, concatenate, count, count_masks
from attnunet.metrics.scores import best_threshold, dice, nan_mean


@dataclass(frozen=True)
class Decision:
    """Turns a patient's probabilities into a mask, in this order:

    1. A voxel is lesion if its probability is at least `threshold`.
    2. With `fill_holes`, background becomes lesion if it is enclosed in its slice, that is, if no path along rows and
       columns leads from it to the border.
    3. 26-connected components of the volume with fewer than `smallest_lesion` voxels are removed; 0 and 1 remove none.
    """

    threshold: float = 0.5
    smallest_lesion: int = 0
    fill_holes: bool = False

    def __call__(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the mask, uint8 (D, h, w) of 0 and 1, of probabilities float32 (D, h, w) in [0, 1]."""
        mask = (probabilities >= self.threshold).astype(np.uint8)
        inside = mask[bounding_box(mask)]  # a view of the mask; nothing outside it can change
        if self.fill_holes:
            for plane in inside:
                plane |= ndimage.binary_fill_holes(plane)
        if self.smallest_lesion > 1:
            labels, sizes = components(inside)
            inside &= (sizes >= self.smallest_lesion)[labels]
        return mask


@dataclass(frozen=True)
class Case:
    """A patient's volume: the probabilities, float32 (D, h, w) in [0, 1], and the reference, uint8 (D, h, w) of 0 and 1."""

    patient: str
    probabilities: np.ndarray
    truth: np.ndarray


@dataclass(frozen=True)
class Trial:
    """A decision that was tried, its mean volumetric Dice, and the number of patients whose Dice is defined."""

    decision: Decision
    dice: float
    patients: int


@dataclass(frozen=True)
class Choice:
    """The chosen decision and all trials: the thresholds first, then the post-processing at the best threshold."""

    decision: Decision
    thresholds: tuple[Trial, ...]
    processing: tuple[Trial, ...]

    def rows(self) -> Iterator[dict[str, float]]:
        """Yield the rows of decision.csv, one for each trial; `chosen` is 1 for the chosen decision."""
        for step, trial in chain(((1, t) for t in self.thresholds), ((2, t) for t in self.processing)):
            tried = trial.decision
            yield {
                "step": step,
                "threshold": tried.threshold,
                "smallest_lesion": tried.smallest_lesion,
                "fill_holes": int(tried.fill_holes),
                "dice": trial.dice,
                "patients": trial.patients,
                "chosen": int(step == 2 and tried == self.decision),
            }


def decide(
    cases: Sequence[Case], thresholds: Sequence[float], smallest_lesions: Sequence[int], fill_holes: Sequence[bool]
) -> Choice:
    """Choose the decision with the highest mean volumetric Dice over validation patients, in two steps.

    The first step chooses the threshold, without post-processing. Ties go to the threshold closest to 0.5, then to the lower
    one. The second step tries every pair of a smallest lesion and hole filling at that threshold. Ties go to the smallest
    number of voxels, then to no filling. Patients whose Dice is undefined, with both masks empty, are left out. The thresholds
    must ascend; the smallest lesions are in voxels.
    """
    counts = concatenate(count([case.patient] * len(case.truth), case.probabilities, case.truth, thresholds) for case in cases)
    plain = tuple(try_decision(Decision(threshold), counts.at(threshold)) for threshold in thresholds)
    threshold = best_threshold(counts)
    tried = (Decision(threshold, size, fill) for size, fill in product(sorted(set(smallest_lesions)), sorted(set(fill_holes))))
    processed = tuple(
        try_decision(decision, concatenate(count_masks(c.patient, decision(c.probabilities), c.truth) for c in cases))
        for decision in tried
    )
    best = max(processed, key=lambda t: (t.dice == t.dice, t.dice))  # the first one of a tie; NaN loses to every number
    return Choice(best.decision, plain, processed)


def try_decision(decision: Decision, counts: Counts) -> Trial:
    """Return the result of a decision from the counts of its masks."""
    scores = dice(counts.by_patient())[:, 0]
    return Trial(decision, nan_mean(scores), int(np.sum(~np.isnan(scores))))
