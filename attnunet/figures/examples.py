"""Figures of slices with the reference, the prediction and the gate weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from attnunet.figures.style import FONT, PREDICTION, TRUTH, WIDTH, contour, format_name, legend, show_image


@dataclass(frozen=True)
class Example:
    """One slice of a patient.

    Attributes:
        title: the title, which may contain any patient's name unchanged.
        image: the image, (h, w) in [0, 255].
        truth, prediction: the masks, (h, w) of 0 and 1.
        gates: the weights of each gate, (h, w) in [0, 1], by the name of the gate.
        note: a line of text below the title.
    """

    title: str
    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    gates: Mapping[str, np.ndarray]
    note: str = ""

    def heading(self, width: float, size: float) -> str:
        """Return the title and the note. The title is at most `width` inches wide at a font size of `size` points."""
        title = format_name(self.title, width, size)
        return f"{title}\n{self.note}" if self.note else title


def predictions(examples: Sequence[Example]) -> Figure:
    """Draw a row for each example: the plain slice, and the slice with the contours of truth and prediction."""
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
    """Draw the weights of the gates over the slices. Each example has a row and each gate has a column.

    Each slice also shows the contour of the truth. The finest gate comes first. The title of a picture gives the share of the
    gate's weights inside the lesion. If a gate had the same weight everywhere, this would be the
    lesion's share of the slice. The lesion's share is printed beside the row.
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
