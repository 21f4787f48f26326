"""Slices with what was predicted on them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from attnunet.figures.style import FONT, PREDICTION, TRUTH, WIDTH, contour, legend, printable, show_image


@dataclass(frozen=True)
class Example:
    """One slice of a patient: image (h, w) in [0, 255], truth and prediction (h, w) of 0 and 1, gates (h, w) in [0, 1].

    title: may hold a patient's name as it was written; note: a line below it.
    """

    title: str
    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    gates: Mapping[str, np.ndarray]
    note: str = ""

    def heading(self, width: float, size: float) -> str:
        """Title and note for a figure, in letters of `size` points, the title at most `width` inches wide."""
        title = printable(self.title, width, size)
        return f"{title}\n{self.note}" if self.note else title


def predictions(examples: Sequence[Example]) -> Figure:
    """A row an example: the slice, the same with truth and prediction as contours."""
    figure = Figure(figsize=(WIDTH * 0.6, WIDTH * 0.34 * len(examples) + 0.4), layout="constrained")
    grid = figure.subplots(len(examples), 2, squeeze=False)
    for (plain, drawn), example in zip(grid, examples, strict=True):
        show_image(plain, example.image, example.heading(WIDTH * 0.28, FONT))
        show_image(drawn, example.image, "")
        contour(drawn, example.truth, TRUTH, "solid")
        contour(drawn, example.prediction, PREDICTION, "dashed")
    legend(figure, truth=(TRUTH, "solid"), prediction=(PREDICTION, "dashed"))
    return figure


def gate_maps(examples: Sequence[Example]) -> Figure:
    """A row an example, a column a gate, finest first: its weights over the slice and the truth's contour.

    Each title gives the share of the gate's mass that lies inside the lesion; a gate that knows nothing would reach the
    lesion's share of the slice, which stands beside the row.
    """
    names = list(examples[0].gates)
    width = WIDTH / max(len(names), 3)
    figure = Figure(figsize=(width * len(names), width * 1.1 * len(examples) + 0.2), layout="constrained")
    grid = figure.subplots(len(examples), len(names), squeeze=False)
    for row, example in zip(grid, examples, strict=True):
        for axes, name in zip(row, names, strict=True):
            weights = example.gates[name]
            share = weights[example.truth > 0].sum() / max(weights.sum(), 1e-9)
            show_image(axes, example.image, f"{name.removesuffix('_map')}: {share:.1%} in lesion")
            drawn = axes.imshow(weights, cmap="viridis", alpha=0.6, vmin=0, vmax=1)
            contour(axes, example.truth, TRUTH, "solid")
        row[0].set_ylabel(
            f"{example.heading(width, FONT - 1)}\nlesion: {example.truth.mean():.1%} of the slice", fontsize=FONT - 1
        )
    bar = figure.colorbar(drawn, ax=grid, shrink=0.6, aspect=30, pad=0.02)
    bar.set_label("gate weight", fontsize=FONT)
    bar.ax.tick_params(labelsize=FONT)
    legend(figure, truth=(TRUTH, "solid"))
    return figure
