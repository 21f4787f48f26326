"""From probabilities to a mask: threshold and post-processing, and how validation patients choose them."""

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
    """What makes a patient's mask of probabilities, in this order:

    1. A voxel is lesion where its probability is at least `threshold`.
    2. With `fill_holes`, slice by slice, so is background that no path along rows and columns leads out of.
    3. 26-connected components of the volume with fewer than `smallest_lesion` voxels are removed; 0 and 1 remove none.
    """

    threshold: float = 0.5
    smallest_lesion: int = 0
    fill_holes: bool = False

    def __call__(self, probabilities: np.ndarray) -> np.ndarray:
        """float32 (D, h, w) in [0, 1] -> uint8 (D, h, w) of 0 and 1."""
        mask = (probabilities >= self.threshold).astype(np.uint8)
        inside = mask[bounding_box(mask)]  # a view: what follows changes nothing outside
        if self.fill_holes:
            for plane in inside:
                plane |= ndimage.binary_fill_holes(plane)
        if self.smallest_lesion > 1:
            labels, sizes = components(inside)
            inside &= (sizes >= self.smallest_lesion)[labels]
        return mask


@dataclass(frozen=True)
class Case:
    """A patient's volume: probabilities float32 (D, h, w) in [0, 1] and truth uint8 (D, h, w) of 0 and 1."""

    patient: str
    probabilities: np.ndarray
    truth: np.ndarray


@dataclass(frozen=True)
class Trial:
    """A decision and the mean volumetric Dice that it reaches over the `patients` that have one."""

    decision: Decision
    dice: float
    patients: int


@dataclass(frozen=True)
class Choice:
    """The decision that was chosen, and what it was chosen from: thresholds alone, then post-processing at the best."""

    decision: Decision
    thresholds: tuple[Trial, ...]
    processing: tuple[Trial, ...]

    def rows(self) -> Iterator[dict[str, float]]:
        """decision.csv: what was tried first to last, a row each; 1 in `chosen` for the decision that stands."""
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
    """The decision of the highest mean volumetric Dice over validation patients, in two steps.

    First the threshold, without post-processing: of equals the nearest to 0.5, then the lower. At that threshold, every
    pair of a smallest lesion and hole filling: of equals the smallest of the smallest lesions, then no filling. Patients
    whose Dice is not defined (nothing there, nothing predicted) do not count. The cases stay in memory throughout.

    Args:
        cases: the validation patients.
        thresholds: tried, ascending.
        smallest_lesions: tried, voxels.
        fill_holes: tried.
    """
    counts = concatenate(count([case.patient] * len(case.truth), case.probabilities, case.truth, thresholds) for case in cases)
    plain = tuple(try_decision(Decision(threshold), counts.at(threshold)) for threshold in thresholds)
    threshold = best_threshold(counts)
    tried = (Decision(threshold, size, fill) for size, fill in product(sorted(set(smallest_lesions)), sorted(set(fill_holes))))
    processed = tuple(
        try_decision(decision, concatenate(count_masks(c.patient, decision(c.probabilities), c.truth) for c in cases))
        for decision in tried
    )
    best = max(processed, key=lambda t: (t.dice == t.dice, t.dice))  # the first of equals; NaN is no score
    return Choice(best.decision, plain, processed)


def try_decision(decision: Decision, counts: Counts) -> Trial:
    scores = dice(counts.by_patient())[:, 0]
    return Trial(decision, nan_mean(scores), int(np.sum(~np.isnan(scores))))
