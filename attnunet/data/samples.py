"""A training sample: an image and its mask, before and after the augmentation."""

from collections.abc import Callable

import numpy as np

from attnunet.data.slices import DataError

Augmentation = Callable[[np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray]]
"""A function (image, mask, seed) -> (image, mask). It keeps the types and shapes, and the mask's values 0 and 1.

The image is uint8, or float32 in [0, 1] if image_type is float16. albumentations takes real numbers in this range. The mask is
uint8 (H, W, 1).
"""


ROUNDING = 1e-3
"""How far a real number of an image may lie outside of [0, 1]. It is then set to 0 or 1."""


class SampleError(DataError):
    """An augmentation changed what it must not change."""


def augment_sample(augment: Augmentation, image: np.ndarray, mask: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an augmented image (S, S, C) and mask (S, S, 1). They have the types of the given image and mask.

    Raises:
        SampleError: the augmentation changed a type or a shape, made a value of the mask another than 0 and 1, or made a real
            number of the image NaN or lie outside of [0, 1].
    """
    if image.dtype == np.uint8:
        return check(image, mask, *augment(image, mask, seed))
    shown = image.astype(np.float32) / 255
    found, mask = check(shown, mask, *augment(shown, mask, seed))
    if not (found.min() >= -ROUNDING and found.max() <= 1 + ROUNDING):  # false for NaN
        raise SampleError(f"the image of numbers from 0 to 1 holds {found.min():g} to {found.max():g}; allowed: 0 to 1")
    return (found * 255).clip(0, 255).astype(image.dtype), mask


def check(image: np.ndarray, mask: np.ndarray, new: np.ndarray, new_mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the new image and mask.

    Raises:
        SampleError: the new image or mask differs from the old one in type or shape, or the mask has a value above 1.
    """
    for name, array, old in (("image", new, image), ("mask", new_mask, mask)):
        if getattr(array, "dtype", None) != old.dtype:
            raise SampleError(f"the {name} became {getattr(array, 'dtype', type(array).__name__)}; allowed: {old.dtype}")
        if array.shape != old.shape:
            raise SampleError(f"the {name} of shape {old.shape} became {array.shape}; allowed: the same shape")
    if new_mask.max() > 1:
        raise SampleError(f"the mask of 0 and 1 holds {new_mask.max()}; allowed: 0 and 1")
    return new, new_mask
