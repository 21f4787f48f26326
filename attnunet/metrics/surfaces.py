"""Distances between the surfaces of reference and prediction.

The surface of a mask is made of its pixels with a neighbour outside it along an axis (4 neighbours in a slice, 6 in a
volume); what lies beyond the image is outside. A directed distance goes from a pixel of one surface to the nearest one of the
other, between centres.

Where the spacing is known, distances are in mm and taken in the volume. Where it is not, a step to the next slice has no
length: distances are in pixels and taken within slices, and a patient's are those of all slices in which both have a surface.
Where only one of the two has one, there is no distance: such slices are counted, and their surface is farther than any
tolerance.

A patient without any distance would be left out of a mean, so that missing a lesion altogether would pay. Each distance
therefore has a second form that is always defined, its worst-case value; see `Distances.or_worst`.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from attnunet.metrics.components import bounding_box


@dataclass(frozen=True)
class Distances:
    """A patient's directed distances.

    to_prediction: from each pixel of the reference's surface, float64 (n,); to_reference: from the prediction's.
    unmatched_pixels: of either surface, for which there is no distance; unmatched_slices: those that hold them.
    diagonal: of the volume in mm, or of a slice in pixels where the spacing is not known; no distance is larger.
    """

    to_prediction: np.ndarray
    to_reference: np.ndarray
    unmatched_pixels: int
    unmatched_slices: int
    diagonal: float

    @property
    def hd95(self) -> float:
        """The larger of the two directed 95th percentiles (interpolated linearly), >= 0; NaN where there is no distance.

        Huttenlocher et al. 1993, doi 10.1109/34.232073; Taha and Hanbury 2015, doi 10.1186/s12880-015-0068-x.
        """
        both = (self.to_prediction, self.to_reference)
        return float(max(np.percentile(d, 95) for d in both)) if self.to_prediction.size else float("nan")

    @property
    def assd(self) -> float:
        """Average symmetric surface distance: the mean over both surfaces' pixels, >= 0; NaN where there is no distance.

        Heimann et al. 2009, doi 10.1109/TMI.2009.2013851.
        """
        both = np.concatenate([self.to_prediction, self.to_reference])
        return float(both.mean()) if both.size else float("nan")

    def or_worst(self, distance: float) -> float:
        """A distance where it is defined; else the diagonal for a lesion that was missed or invented, 0 for two empty masks.

        So is a lesion that was found in none of its slices, where the spacing is not known. BraTS has these values (Isensee
        et al. 2020, arXiv 2011.00848: 0 and 373 mm, the diagonal of its images); Maier-Hein et al. 2024, doi
        10.1038/s41592-023-02151-z, ask for the worst value where a prediction is missing.
        """
        if not math.isnan(distance):
            return distance
        return self.diagonal if self.unmatched_pixels else 0.0

    def surface_dice(self, tolerance: float) -> float:
        """The share of both surfaces' pixels within `tolerance` of the other surface, in [0, 1]; NaN where both are empty.

        Nikolov et al. 2018, arXiv 1809.04430; there pieces of surface have an area, here a pixel counts one.
        """
        both = np.concatenate([self.to_prediction, self.to_reference])
        total = both.size + self.unmatched_pixels
        return float(np.count_nonzero(both <= tolerance) / total) if total else float("nan")


def distances(truth: np.ndarray, prediction: np.ndarray, spacing: Sequence[float] | None) -> Distances:
    """Of a patient's two masks (D, h, w) of 0 and 1; `spacing` in mm between slices, rows and columns, if it is known."""
    pieces = [(truth, prediction)] if spacing else list(nonempty_slices(truth, prediction))
    to_prediction, to_reference, unmatched_pixels, unmatched_slices = [np.empty(0)], [np.empty(0)], 0, 0
    for one, other in pieces:
        box = bounding_box(one | other)
        reference, found = surface(one[box]), surface(other[box])
        if reference.any() and found.any():
            to_prediction.append(ndimage.distance_transform_edt(~found, spacing)[reference])
            to_reference.append(ndimage.distance_transform_edt(~reference, spacing)[found])
        else:
            unmatched_pixels += int(reference.sum() + found.sum())
            unmatched_slices += int(np.sum((reference | found).any(axis=(-2, -1))))
    there, back = np.concatenate(to_prediction), np.concatenate(to_reference)
    diagonal = math.hypot(*np.multiply(truth.shape, spacing)) if spacing else math.hypot(*truth.shape[1:])
    return Distances(there, back, unmatched_pixels, unmatched_slices, diagonal)


def nonempty_slices(truth: np.ndarray, prediction: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The pairs of slices in which there is anything at all."""
    for one, other in zip(truth, prediction, strict=True):
        if one.any() or other.any():
            yield one, other


def surface(mask: np.ndarray) -> np.ndarray:
    """bool, of the mask's shape."""
    inside = mask > 0
    return inside & ~ndimage.binary_erosion(inside)  # with what lies beyond as outside, and neighbours along axes
