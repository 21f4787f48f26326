"""Lesions and how many of them a prediction finds. A lesion is a 26-connected component of a volume."""

from dataclasses import dataclass

import numpy as np

from attnunet.metrics.components import bounding_box, components


@dataclass(frozen=True)
class Lesions:
    """The lesions of a volume's reference and prediction, matched by their overlap.

    A lesion of the reference is found if the prediction overlaps at least one tenth of its voxels. A lesion of the prediction
    is true if the reference overlaps at least one tenth of its voxels. Commowick et al. 2018, doi
    10.1038/s41598-018-31911-7, use the same rules with other shares than one tenth.

    Attributes:
        reference: the number of lesions in the reference.
        found: the number of lesions in the reference that are found.
        prediction: the number of lesions in the prediction.
        true: the number of lesions in the prediction that are true.
    """

    reference: int
    found: int
    prediction: int
    true: int

    @property
    def false(self) -> int:
        """The number of lesions in the prediction that are not true."""
        return self.prediction - self.true

    @property
    def recall(self) -> float:
        """found / reference, in [0, 1]; NaN without lesions in the reference."""
        return self.found / self.reference if self.reference else float("nan")

    @property
    def precision(self) -> float:
        """true / prediction, in [0, 1]; NaN without lesions in the prediction."""
        return self.true / self.prediction if self.prediction else float("nan")

    @property
    def f1(self) -> float:
        """The harmonic mean of recall and precision.

        It is NaN if both are undefined. Otherwise it is 0 if recall or precision is 0 or undefined.
        """
        if not self.reference and not self.prediction:
            return float("nan")
        if not self.found or not self.true:
            return 0.0
        # equal to 2 / (1 / recall + 1 / precision), but with a single division
        return 2 * self.found * self.true / (self.found * self.prediction + self.true * self.reference)


def match_lesions(reference: np.ndarray, prediction: np.ndarray) -> Lesions:
    """Count the lesions of two masks (D, h, w) of 0 and 1. Return the numbers of all, of found and of true lesions."""
    box = bounding_box(reference | prediction)
    lesions, detections = components(reference[box]), components(prediction[box])
    return Lesions(
        reference=len(lesions[1]) - 1,
        found=count_overlapped(*lesions, prediction[box]),
        prediction=len(detections[1]) - 1,
        true=count_overlapped(*detections, reference[box]),
    )


def count_overlapped(labels: np.ndarray, sizes: np.ndarray, other: np.ndarray) -> int:
    """Return the number of lesions of which the mask `other` overlaps at least one tenth.

    `labels` and `sizes` describe the lesions; `components` returns them.
    """
    overlap = np.bincount(labels[other > 0], minlength=len(sizes))
    return int(np.sum(10 * overlap[1:] >= sizes[1:]))
