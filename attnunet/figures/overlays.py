"""Pictures of a slice for a screen: the image in grey, a coloured map over it, and the outline of a mask."""

from collections.abc import Sequence

import cv2
import matplotlib
import numpy as np
from matplotlib.colors import to_rgb

from attnunet.figures.style import PREDICTION

OPACITY = 0.6
LINE = 2  # pixels


def picture_size(shape: Sequence[int], spacing: Sequence[float] | None, longest: int) -> tuple[int, int]:
    """Return the height and the width of a picture, so that its longer side has `longest` pixels.

    `shape` is the number of rows and columns of the slice. `spacing` is the distance between slices, rows and columns. The
    picture shows a millimetre with the same length in both directions.
    """
    _, *pixel = spacing or (1, 1, 1)
    height, width = (size * length for size, length in zip(shape, pixel, strict=True))
    scale = longest / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def overlay(
    image: np.ndarray,
    size: tuple[int, int],
    mask: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    fade: bool = False,
) -> np.ndarray:
    """Return the picture of a slice, uint8 (height, width, 3) in the order red, green, blue.

    Args:
        image: the slice, uint8 (h, w).
        size: the height and the width of the picture.
        mask: (h, w) of 0 and 1. Its outline follows the edges of the pixels.
        weights: (h, w) in [0, 1]. They are drawn in the colours of viridis.
        fade: whether a weight of 0 is transparent. If not, all weights have the same opacity.
    """
    height, width = size
    picture = cv2.cvtColor(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), cv2.COLOR_GRAY2RGB)
    if weights is not None:
        large = np.clip(cv2.resize(weights, (width, height), interpolation=cv2.INTER_LINEAR), 0, 1)
        colors = matplotlib.colormaps["viridis"](large)[..., :3] * 255
        opacity = OPACITY * (large[..., None] if fade else 1)
        picture = np.rint(opacity * colors + (1 - opacity) * picture).astype(np.uint8)
    if mask is not None:
        large = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
        outline, _ = cv2.findContours(large, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        color = [round(255 * part) for part in to_rgb(PREDICTION)]
        cv2.drawContours(picture, outline, -1, (0, 0, 0), 2 * LINE)  # visible on bright tissue
        cv2.drawContours(picture, outline, -1, color, LINE)
    return picture
