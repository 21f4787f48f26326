"""The square that a network sees of a slice, and the way back."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from attnunet.data.slices import DataError


@dataclass(frozen=True)
class Frame:
    """How a slice comes to its square.

    Attributes:
        native: its rows and columns.
        scaled: those that it is resampled to.
        size: of the square, on which it is centred; what goes beyond is cut off, what it lacks is 0.
    """

    native: tuple[int, int]
    scaled: tuple[int, int]
    size: int

    def show(self, image: np.ndarray) -> np.ndarray:
        """Return an image (h, w) or (h, w, C) as (size, size) or (size, size, C)."""
        return centre(resize(image, self.scaled), (self.size, self.size))

    def show_mask(self, mask: np.ndarray) -> np.ndarray:
        """Return a mask of 0 and 1 (h, w) as (size, size)."""
        return centre(resize_mask(mask, self.scaled), (self.size, self.size))

    def restore(self, values: np.ndarray) -> np.ndarray:
        """Return values of the square (size, size) at the slice's size (h, w)."""
        return resize(centre(values, self.scaled), self.native)

    @property
    def cuts(self) -> bool:
        """Whether margins of the slice are cut off."""
        return max(self.scaled) > self.size


def make_frame(
    native: Sequence[int], size: int, pixel_size: float | None = None, spacing: Sequence[float] | None = None
) -> Frame:
    """Return the frame of a slice: squeezed into the square, or resampled where there is a `pixel_size` in mm.

    Args:
        native: rows and columns.
        size: of the square.
        pixel_size: that all slices are to have.
        spacing: mm between slices, rows and columns.

    Raises:
        DataError: a pixel size, and no spacing.
    """
    rows, columns = native
    if pixel_size is None:
        return Frame((rows, columns), (size, size), size)
    if spacing is None:
        raise DataError(f"data.pixel_size={pixel_size}: the files do not tell how many mm a pixel measures; allowed: null")
    scaled = (max(1, round(rows * spacing[1] / pixel_size)), max(1, round(columns * spacing[2] / pixel_size)))
    return Frame((rows, columns), scaled, size)


def centre(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return an image (h, w, ...) cut or padded with 0 to (*shape, ...), its centre in the centre."""
    if image.shape[:2] == shape:
        return image
    placed = np.zeros((*shape, *image.shape[2:]), image.dtype)
    inner, outer = zip(*(overlap(there, here) for there, here in zip(shape, image.shape, strict=False)), strict=True)
    placed[inner] = image[outer]
    return placed


def overlap(there: int, here: int) -> tuple[slice, slice]:
    """Return where a stretch of `here` pixels lies in one of `there`, with one centre, and which of its pixels do."""
    shared, start = min(here, there), int((there - here) / 2)  # towards 0, so that the way back is the way here
    return slice(max(start, 0), max(start, 0) + shared), slice(max(-start, 0), max(-start, 0) + shared)


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
