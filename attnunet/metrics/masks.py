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
    """Two masks of one patient's volume, uint8 (D, h, w) of 0 and 1. What several metrics share is computed once.

    Attributes:
        tolerance: of surface Dice, in mm, or in pixels where the spacing is unknown.
        spacing: in mm between slices, rows and columns; None if it is unknown.
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
