"""The figure of a segmented case: its slices with the outlines of the mask."""

import math

import numpy as np
from matplotlib.figure import Figure

from attnunet.figures.style import FONT, PREDICTION, TRUTH, WIDTH, contour, format_name, legend, show_image

MOST = 12
"""The largest number of slices in a figure."""
ACROSS = 4


def choose_slices(mask: np.ndarray) -> list[int]:
    """Return the slices to draw, in order: the one with the most lesion, and others with lesion at even distances.

    If there is no lesion, the slices lie at a quarter, a half and three quarters of the volume.
    """
    with_lesion = np.flatnonzero(mask.any(axis=(1, 2)))
    if not with_lesion.size:
        return sorted({len(mask) * quarter // 4 for quarter in (1, 2, 3)})
    even = np.linspace(0, len(with_lesion) - 1, min(MOST - 1, len(with_lesion))).round().astype(int)
    return sorted({int(mask.sum(axis=(1, 2)).argmax()), *with_lesion[even].tolist()})


def outlines(title: str, image: np.ndarray, mask: np.ndarray, truth: np.ndarray | None = None) -> Figure:
    """Draw slices of a case with the outlines of its mask and, if there is one, of the truth.

    `image` is (D, h, w) of any numbers, shown from its 1st to its 99th percentile. `mask` is (D, h, w) of 0 and 1, and so is
    `truth`. A slice's title is its number, from 1, and the lesion pixels of the mask.
    """
    places = choose_slices(mask if truth is None else mask | truth)
    low, high = np.percentile(image, [1, 99])
    shown = np.clip((image[places].astype(np.float32) - low) / max(high - low, 1e-6) * 255, 0, 255)
    rows = math.ceil(len(places) / ACROSS)
    width, ratio = WIDTH / ACROSS, image.shape[1] / image.shape[2]
    figure = Figure(figsize=(WIDTH, rows * (width * ratio + 0.2) + 0.3), layout="constrained")
    figure.suptitle(format_name(title, WIDTH - 0.2), fontsize=FONT)
    grid = figure.subplots(rows, ACROSS, squeeze=False).ravel()
    for axes in grid[len(places) :]:
        axes.axis("off")
    for axes, place, slice_ in zip(grid, places, shown, strict=False):
        show_image(axes, slice_, f"{place + 1}: {int(mask[place].sum()):,} pixels")
        if truth is not None:
            contour(axes, truth[place], TRUTH, "solid")
        contour(axes, mask[place], PREDICTION, "solid" if truth is None else "dashed")
    if truth is not None:
        legend(figure, truth=(TRUTH, "solid"), prediction=(PREDICTION, "dashed"))
    return figure
