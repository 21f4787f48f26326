"""What augmentation must leave as it is: the types and sizes of image and mask, and the mask's two values."""

import numpy as np


def fault(image: np.ndarray, mask: np.ndarray, size: int, channels: int) -> str | None:
    """Return what is wrong with a sample that the network is to see; None if it is image and mask of this size."""
    for name, array, shape in (("image", image, (size, size, channels)), ("mask", mask, (size, size, 1))):
        if getattr(array, "dtype", None) != np.uint8:
            return f"the {name} became {getattr(array, 'dtype', type(array).__name__)}; allowed: uint8"
        if array.shape != shape:
            return f"the {name} of shape {shape} became {array.shape}; allowed: the same shape"
    if mask.max() > 1:
        return f"the mask of 0 and 1 holds {mask.max()}; allowed: 0 and 1"
    return None
