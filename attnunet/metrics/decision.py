"""The decision turns probabilities into a mask by a threshold and post-processing. `decide` chooses it."""

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
    """A function that turns a patient's probabilities into a mask, in three steps:

    1. A voxel is lesion if its probability is at least `threshold`.
    2. If `fill_holes` is true, the holes of each slice become lesion. A hole is background from which no path along rows
       and columns leads to the border of the slice.
    3. 26-connected components with fewer than `smallest_lesion` voxels are removed from the volume. The values 0 and 1
       remove nothing.
    """

    threshold: float = 0.5
    smallest_lesion: int = 0
    fill_holes: bool = False

    def __call__(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the mask, uint8 (D, h, w) of 0 and 1. The probabilities are float32 (D, h, w) in [0, 1]."""
        mask = (probabilities >= self.threshold).astype(np.uint8)
        inside = mask[bounding_box(mask)]  # a view of the mask; pixels outside it are background and stay so
        if self.fill_holes:
            for plane in inside:
                plane |= ndimage.binary_fill_holes(plane)
        if self.smallest_lesion > 1:
            labels, sizes = components(inside)
            inside &= (sizes >= self.smallest_lesion)[labels]
        return mask


@dataclass(frozen=True)
class Case:
    """A patient's volume.

    Attributes:
        patient: the name of the volume.
        probabilities: the predicted probabilities of lesion, float32 (D, h, w) in [0, 1].
        truth: the reference, uint8 (D, h, w) of 0 and 1.
    """

    patient: str
    probabilities: np.ndarray
    truth: np.ndarray


@dataclass(frozen=True)
class Trial:
    """A decision that was tried, with its result.

    Attributes:
        decision: the decision.
        dice: the mean volumetric Dice over the patients whose Dice is defined.
        patients: the number of these patients.
    """

    decision: Decision
    dice: float
    patients: int


@dataclass(frozen=True)
class Choice:
    """The chosen decision and all trials.

    Attributes:
        decision: the chosen decision.
        thresholds: the trials of the first step, which tries thresholds without post-processing.
        processing: the trials of the second step, which tries post-processing at the best threshold.
    """

    decision: Decision
    thresholds: tuple[Trial, ...]
    processing: tuple[Trial, ...]

    def rows(self) -> Iterator[dict[str, float]]:
        """Yield the rows of decision.csv, one for each trial. `chosen` is 1 in the row of the chosen decision."""
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
    threshold. The second step keeps the chosen threshold and tries every combination of `smallest_lesions` and `fill_holes`.
    Ties go to the smallest number of voxels, then to no filling. The mean leaves out a patient if both masks are empty,
    because Dice is then undefined. The thresholds must ascend. The smallest lesions are in voxels.

    Without cases, nothing is tried, and the only value of each list makes the decision.
    """
    if not cases:
        ((threshold,), (size,), (fill,)) = thresholds, smallest_lesions, fill_holes
        return Choice(Decision(threshold, size, fill), (), ())
    counts = concatenate(count([case.patient] * len(case.truth), case.probabilities, case.truth, thresholds) for case in cases)
    plain = tuple(try_decision(Decision(threshold), counts.at(threshold)) for threshold in thresholds)
    threshold = best_threshold(counts)
    tried = (Decision(threshold, size, fill) for size, fill in product(sorted(set(smallest_lesions)), sorted(set(fill_holes))))
    processed = tuple(
        try_decision(decision, concatenate(count_masks(c.patient, decision(c.probabilities), c.truth) for c in cases))
        for decision in tried
    )
    best = max(processed, key=lambda t: (t.dice == t.dice, t.dice))  # the first trial wins a tie; NaN loses to every number
    return Choice(best.decision, plain, processed)


def try_decision(decision: Decision, counts: Counts) -> Trial:
    """Return the trial of a decision, from the counts of the masks that it gives."""
    scores = dice(counts.by_patient())[:, 0]
    return Trial(decision, nan_mean(scores), int(np.sum(~np.isnan(scores))))
