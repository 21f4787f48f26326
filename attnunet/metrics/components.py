"""The connected components of a mask, and the box around them."""

from typing import TypeAlias

import numpy as np
from scipy import ndimage

Box: TypeAlias = tuple[slice, ...]
CORNERS = np.ones((3, 3, 3), bool)  # voxels that share at least a corner belong to the same component


def bounding_box(mask: np.ndarray) -> Box:
    """Return the smallest box that holds every lesion voxel of a mask of 0 and 1. An empty mask gives an empty box.

    The mask may have any number of axes.
    """
    sides = []
    for axis in range(mask.ndim):
        (occupied,) = np.nonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        sides.append(slice(occupied[0], occupied[-1] + 1) if occupied.size else slice(0, 0))
    return tuple(sides)


def components(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels of a mask's 26-connected components and the number of voxels with each label.

    The mask is (D, h, w) of 0 and 1. The labels are int32 (D, h, w): 0 outside the components and k in the k-th component.
    The numbers of voxels are int64 (1 + components,).
    """
    labels, number = ndimage.label(mask, CORNERS)
    return labels, np.bincount(labels.ravel(), minlength=1 + number)
