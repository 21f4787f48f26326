"""How a slice is brought to the square for the network, and how values of the square are brought back to the slice."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from attnunet.data.slices import DataError

MOST_CHANNELS = 4
"""The most channels of an image that OpenCV shrinks by area averaging."""


@dataclass(frozen=True)
class Frame:
    """How a slice is brought to its square.

    Attributes:
        native: the numbers of rows and columns of the slice.
        scaled: the numbers of rows and columns of the resampled slice.
        size: the side of the square in pixels. The resampled slice is centred on the square. Pixels beyond the square are cut
            off. Pixels of the square beyond the slice are 0.
    """

    native: tuple[int, int]
    scaled: tuple[int, int]
    size: int

    def show(self, image: np.ndarray) -> np.ndarray:
        """Return an image (h, w) or (h, w, C) in the square, as (size, size) or (size, size, C)."""
        return centre(resize(image, self.scaled), (self.size, self.size))

    def show_mask(self, mask: np.ndarray) -> np.ndarray:
        """Return a mask (h, w) of 0 and 1 in the square, as (size, size)."""
        return centre(resize_mask(mask, self.scaled), (self.size, self.size))

    def restore(self, values: np.ndarray) -> np.ndarray:
        """Return values of the square (size, size), brought back to the slice's size (h, w)."""
        return resize(centre(values, self.scaled), self.native)

    @property
    def cuts(self) -> bool:
        """Whether margins of the slice are cut off."""
        return max(self.scaled) > self.size


def make_frame(
    native: Sequence[int], size: int, pixel_size: float | None = None, spacing: Sequence[float] | None = None
) -> Frame:
    """Return the frame of a slice.

    Without a `pixel_size`, the slice is squeezed into the square. With a `pixel_size`, the slice is resampled to that size.

    Args:
        native: the numbers of rows and columns of the slice.
        size: the side of the square in pixels.
        pixel_size: the pixel size in mm that all slices get.
        spacing: the distance in mm between slices, rows and columns.

    Raises:
        DataError: a pixel size is given, but no spacing.
    """
    rows, columns = native
    if pixel_size is None:
        return Frame((rows, columns), (size, size), size)
    if spacing is None:
        raise DataError(f"data.pixel_size={pixel_size}: the files do not tell how many mm a pixel measures; allowed: null")
    scaled = (max(1, round(rows * spacing[1] / pixel_size)), max(1, round(columns * spacing[2] / pixel_size)))
    return Frame((rows, columns), scaled, size)


def centre(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return an image (h, w, ...) that is cut, or padded with 0, to (*shape, ...). Its centre stays in the centre."""
    if image.shape[:2] == shape:
        return image
    placed = np.zeros((*shape, *image.shape[2:]), image.dtype)
    inner, outer = zip(*(overlap(there, here) for there, here in zip(shape, image.shape, strict=False)), strict=True)
    placed[inner] = image[outer]
    return placed


def overlap(there: int, here: int) -> tuple[slice, slice]:
    """Return the part that two centred rows of pixels share, as two slices.

    The first slice is the part in the row of `there` pixels. The second slice is the part in the row of `here` pixels.
    """
    shared, start = min(here, there), int((there - here) / 2)  # rounded towards 0, so that the way back is exactly the inverse
    return slice(max(start, 0), max(start, 0) + shared), slice(max(-start, 0), max(-start, 0) + shared)


def resize(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return an image (h, w) or (h, w, C) resized to `shape` or (*shape, C).

    An image shrinks by area averaging, and grows by bilinear interpolation.
    """
    if image.shape[:2] == shape:
        return image
    if image.ndim == 3 and image.shape[2] > MOST_CHANNELS:
        return np.stack([resize(np.ascontiguousarray(channel), shape) for channel in np.moveaxis(image, 2, 0)], axis=2)
    shrinks = shape[0] <= image.shape[0] and shape[1] <= image.shape[1]
    resized = cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return resized.reshape(*shape, *image.shape[2:])  # OpenCV drops a channel axis of length 1


def resize_mask(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return a mask, uint8 (h, w) of 0 and 1, resized to uint8 (*shape) of 0 and 1.

    A resized pixel is lesion if at least half of it is lesion.
    """
    return (resize(mask * np.uint8(255), shape) >= 128).astype(np.uint8)
