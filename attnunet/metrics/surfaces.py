"""Distances between the surfaces of reference and prediction.

A pixel of a mask belongs to the mask's surface if it has a neighbour outside the mask. Neighbours lie along the axes: a pixel
has 4 in a slice and 6 in a volume. Everything beyond the image counts as outside. A directed distance leads from the centre of
a pixel of one surface to the centre of the nearest pixel of the other surface.

If the spacing is known, distances are in mm and are measured in the volume. If it is unknown, the distance between two slices
is unknown too. Distances are then in pixels and are measured within slices. A patient has the distances of all slices in which
both masks have a surface. A slice in which only one mask has a surface gives no distance. It counts as unmatched, and its
surface counts as farther away than any tolerance.

A mean leaves out patients without any distance. A network that misses a lesion completely would profit from this. Each
distance therefore has a second form, which takes the worst case if the distance is undefined; see `Distances.or_worst`.
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

    Attributes:
        to_prediction: the distance from each pixel of the reference's surface to the prediction's surface, float64 (n,).
        to_reference: the distance from each pixel of the prediction's surface to the reference's surface, float64 (m,).
        unmatched_pixels: the number of pixels of both surfaces that have no distance.
        unmatched_slices: the number of slices with such pixels.
        diagonal: the diagonal of the volume in mm, or of a slice in pixels if the spacing is unknown. No distance is larger.
    """

    to_prediction: np.ndarray
    to_reference: np.ndarray
    unmatched_pixels: int
    unmatched_slices: int
    diagonal: float

    @property
    def hd95(self) -> float:
        """The larger of the two directed 95th percentiles (interpolated linearly), >= 0; NaN if there is no distance.

        The sources are Huttenlocher et al. 1993, doi 10.1109/34.232073, and Taha and Hanbury 2015, doi
        10.1186/s12880-015-0068-x.
        """
        both = (self.to_prediction, self.to_reference)
        return float(max(np.percentile(d, 95) for d in both)) if self.to_prediction.size else float("nan")

    @property
    def assd(self) -> float:
        """The average symmetric surface distance, >= 0; NaN if there is no distance.

        It is the mean of the distances from all pixels of both surfaces. The source is Heimann et al. 2009, doi
        10.1109/TMI.2009.2013851.
        """
        both = np.concatenate([self.to_prediction, self.to_reference])
        return float(both.mean()) if both.size else float("nan")

    def or_worst(self, distance: float) -> float:
        """Return a distance, or the worst case if the distance is undefined.

        The worst case is the diagonal if exactly one mask is empty. With unknown spacing, it is also the diagonal if
        neither mask is empty but no slice has both surfaces. It is 0 if both masks are empty. BraTS uses the same rule with
        the values 0 and 373 mm, the diagonal of its images (Isensee et al. 2020, arXiv 2011.00848). Maier-Hein et al. 2024,
        doi 10.1038/s41592-023-02151-z, recommend the worst value for a missing prediction.
        """
        if not math.isnan(distance):
            return distance
        return self.diagonal if self.unmatched_pixels else 0.0

    def surface_dice(self, tolerance: float) -> float:
        """Return the share of the pixels of both surfaces that lie within `tolerance` of the other surface, in [0, 1].

        The share is NaN if both masks are empty. Nikolov et al. 2018, arXiv 1809.04430, weight each piece of a surface by its
        area. Here, every pixel has the weight 1.
        """
        both = np.concatenate([self.to_prediction, self.to_reference])
        total = both.size + self.unmatched_pixels
        return float(np.count_nonzero(both <= tolerance) / total) if total else float("nan")


def distances(truth: np.ndarray, prediction: np.ndarray, spacing: Sequence[float] | None) -> Distances:
    """Return the distances between the surfaces of two masks (D, h, w) of 0 and 1.

    `spacing` holds the distances between slices, between rows and between columns in mm; None if they are unknown.
    """
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
    """Yield the two masks of each slice in which at least one mask is not empty."""
    for one, other in zip(truth, prediction, strict=True):
        if one.any() or other.any():
            yield one, other


def surface(mask: np.ndarray) -> np.ndarray:
    """Return which pixels of a mask belong to its surface, bool of the mask's shape."""
    inside = mask > 0
    return inside & ~ndimage.binary_erosion(inside)  # erosion along axes; everything beyond the image is outside
