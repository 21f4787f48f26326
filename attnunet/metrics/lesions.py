"""Lesions: the 26-connected components of a volume, and which of them were found."""

from typing import TypeAlias

import numpy as np
from scipy import ndimage

Box: TypeAlias = tuple[slice, ...]
CORNERS = np.ones((3, 3, 3), bool)  # voxels that share a corner are of one lesion


def bounding_box(mask: np.ndarray) -> Box:
    """The smallest box that holds every voxel of a mask (any number of axes) of 0 and 1; of an empty one, nothing of it."""
    sides = []
    for axis in range(mask.ndim):
        (occupied,) = np.nonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        sides.append(slice(occupied[0], occupied[-1] + 1) if occupied.size else slice(0, 0))
    return tuple(sides)


def components(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A mask (D, h, w) of 0 and 1 -> labels int32 (D, h, w), 0 outside and k in the k-th lesion, and how many voxels have
    each label, int64 (1 + lesions,)."""
    labels, lesions = ndimage.label(mask, CORNERS)
    return labels, np.bincount(labels.ravel(), minlength=1 + lesions)


def count_found(labels: np.ndarray, sizes: np.ndarray, other: np.ndarray) -> int:
    """How many of the lesions that `components` gives are overlapped by the mask `other` by at least one tenth."""
    overlap = np.bincount(labels[other > 0], minlength=len(sizes))
    return int(np.sum(10 * overlap[1:] >= sizes[1:]))


def lesion_scores(truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """How many lesions of a volume were found, from the masks (D, h, w) of 0 and 1 of reference and prediction.

        lesions            in the reference
        lesions_found      those of which the prediction overlaps at least one tenth of the voxels
        lesions_false      in the prediction, of which the reference overlaps less than one tenth
        lesion_recall      lesions_found / lesions; NaN without lesions in the reference
        lesion_precision   1 - lesions_false / lesions in the prediction; NaN without
        lesion_f1          their harmonic mean; 0 where one is 0 or undefined, NaN where both are undefined

    Commowick et al. 2018, doi 10.1038/s41598-018-31911-7, judge lesions so; there the share is not the same.
    """
    box = bounding_box(truth | prediction)
    reference, predicted = components(truth[box]), components(prediction[box])
    lesions, detections = len(reference[1]) - 1, len(predicted[1]) - 1
    hits, right = count_found(*reference, prediction[box]), count_found(*predicted, truth[box])
    recall = hits / lesions if lesions else float("nan")
    precision = right / detections if detections else float("nan")
    # 2 / (1 / recall + 1 / precision), written so that a 0 is none to divide by
    f1 = 2 * hits * right / (hits * detections + right * lesions) if hits and right else 0.0
    return {
        "lesions": lesions,
        "lesions_found": hits,
        "lesions_false": detections - right,
        "lesion_recall": recall,
        "lesion_precision": precision,
        "lesion_f1": f1 if lesions or detections else float("nan"),
    }
