"""A patient's slices as a network sees them: intensities scaled, resized to a square."""

import cv2
import numpy as np


def prepare_volume(volume: np.ndarray, image_size: int, intensity: str) -> np.ndarray:
    """A patient's slices as a network sees them: uint8 (D, h, w, C) -> uint8 (D, image_size, image_size, C).

    Intensities are scaled a channel of the volume (see INTENSITIES). Slices are resized to a square: by area averaging
    when they shrink, bilinearly when they grow.
    """
    scale = INTENSITIES[intensity]
    scaled = np.stack([scale(volume[..., channel]) for channel in range(volume.shape[-1])], axis=-1)
    return np.stack([resize(image, (image_size, image_size)) for image in scaled])


def linear(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """uint8: low to 0 and high to 255, linearly, rounded and clipped; a range below 1 counts as 1."""
    scaled = (values - np.float32(low)) * np.float32(255 / max(high - low, 1))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def percentile(values: np.ndarray) -> np.ndarray:
    """The 1st percentile of the pixels above 0 becomes 0, the 99th 255."""
    above = values[values > 0]
    return linear(values, *np.percentile(above, [1, 99])) if above.size else values


def zscore(values: np.ndarray) -> np.ndarray:
    """Three standard deviations below the head's mean become 0, three above 255; the head is what exceeds the overall mean.

    So heads of dark and bright scans get the same mean, as by nnU-Net's normalisation of MRI (doi
    10.1038/s41592-020-01008-z).
    """
    head = values[values > values.mean()]
    if not head.size:
        return values
    mean, spread = head.mean(dtype=np.float64), 3 * head.std(dtype=np.float64)
    return linear(values, mean - spread, mean + spread)


INTENSITIES = {"raw": lambda values: values, "percentile": percentile, "zscore": zscore}


def resize(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(h, w) or (h, w, C) to (*shape) or (*shape, C): area averaging to shrink, bilinear to grow."""
    if image.shape[:2] == shape:
        return image
    shrinks = shape[0] <= image.shape[0] and shape[1] <= image.shape[1]
    resized = cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return resized.reshape(*shape, *image.shape[2:])  # OpenCV drops a channel axis of length one


def resize_mask(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """uint8 0 or 1 (h, w) -> uint8 0 or 1 (*shape): a pixel is lesion where at least half of it is."""
    return (resize(mask * np.uint8(255), shape) >= 128).astype(np.uint8)
