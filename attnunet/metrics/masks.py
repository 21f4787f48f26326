"""A patient's reference and prediction, from which every metric is computed."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from attnunet.metrics.counts import Counts, count_masks
from attnunet.metrics.lesions import Lesions, match_lesions
from attnunet.metrics.surfaces import Distances, distances


@dataclass(frozen=True)
class Masks:
    """The reference and the prediction for a patient's volume. Results that several metrics use are computed once.

    Attributes:
        patient: the name of the patient.
        reference, prediction: the masks, uint8 (D, h, w) of 0 and 1.
        tolerance: the tolerance of surface Dice, in mm; in pixels if the spacing is unknown.
        spacing: the distances between slices, between rows and between columns, in mm; None if they are unknown.
    """

    patient: str
    reference: np.ndarray
    prediction: np.ndarray
    tolerance: float
    spacing: Sequence[float] | None

    @cached_property
    def slices(self) -> Counts:
        """The counts of pixels, one row for each slice."""
        return count_masks(self.patient, self.prediction, self.reference)

    @cached_property
    def volume(self) -> Counts:
        """The counts of voxels of the whole volume, in one row."""
        return self.slices.pooled()

    @cached_property
    def surfaces(self) -> Distances:
        """The distances between the two surfaces."""
        return distances(self.reference, self.prediction, self.spacing)

    @cached_property
    def lesions(self) -> Lesions:
        """The lesions of both masks, matched by their overlap."""
        return match_lesions(self.reference, self.prediction)
