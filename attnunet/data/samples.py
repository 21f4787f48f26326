"""The properties that augmentation must not change: the types and sizes of image and mask, and the mask's values 0 and 1."""

import numpy as np


def fault(image: np.ndarray, mask: np.ndarray, size: int, channels: int) -> str | None:
    """Return a text that tells the fault of a training sample, or None if the sample has no fault.

    The image must be uint8 (size, size, channels). The mask must be uint8 (size, size, 1) of 0 and 1.
    """
    for name, array, shape in (("image", image, (size, size, channels)), ("mask", mask, (size, size, 1))):
        if getattr(array, "dtype", None) != np.uint8:
            return f"the {name} became {getattr(array, 'dtype', type(array).__name__)}; allowed: uint8"
        if array.shape != shape:
            return f"the {name} of shape {shape} became {array.shape}; allowed: the same shape"
    if mask.max() > 1:
        return f"the mask of 0 and 1 holds {mask.max()}; allowed: 0 and 1"
    return None
