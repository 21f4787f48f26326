"""Figures for a paper's column: one look, colours that the colour-blind tell apart, no state of pyplot's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito 2008.
TRUTH, PREDICTION, THIRD = "#E69F00", "#56B4E9", "#009E73"
WIDTH = 7.0  # inches, two columns


@dataclass(frozen=True)
class Example:
    """One slice of a patient: image (h, w) in [0, 255], truth and prediction (h, w) of 0 and 1, gates (h, w) in [0, 1]."""

    title: str
    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    gates: Mapping[str, np.ndarray]


def of_run(examples: Sequence[Example], history: Sequence[Mapping[str, float]], best_epoch: int) -> dict[str, Figure]:
    """The figures of one run by name."""
    figures = {"predictions": predictions(examples), "curves": curves(history, best_epoch)}
    return figures | ({"gates": gate_maps(examples)} if examples[0].gates else {})


def predictions(examples: Sequence[Example]) -> Figure:
    """A row an example: the slice, the same with truth and prediction as contours."""
    figure = Figure(figsize=(WIDTH * 0.6, WIDTH * 0.3 * len(examples)), layout="constrained")
    grid = figure.subplots(len(examples), 2, squeeze=False)
    for (plain, drawn), example in zip(grid, examples, strict=True):
        show(plain, example.image, example.title)
        show(drawn, example.image, "")
        contour(drawn, example.truth, TRUTH, "solid")
        contour(drawn, example.prediction, PREDICTION, "dashed")
    for label, color, style in (("truth", TRUTH, "solid"), ("prediction", PREDICTION, "dashed")):
        grid[0, 1].plot([], [], color=color, linestyle=style, label=label)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def gate_maps(examples: Sequence[Example]) -> Figure:
    """A row an example, a column a gate, finest first: its weights over the slice and the truth's contour.

    Each title gives the share of the gate's mass that lies inside the lesion, and, as chance would have it, the lesion's
    share of the slice.
    """
    names = list(examples[0].gates)
    width = WIDTH / max(len(names), 3)
    figure = Figure(figsize=(width * len(names), width * 1.15 * len(examples)), layout="constrained")
    grid = figure.subplots(len(examples), len(names), squeeze=False)
    for row, example in zip(grid, examples, strict=True):
        for axes, name in zip(row, names, strict=True):
            weights = example.gates[name]
            share = weights[example.truth > 0].sum() / max(weights.sum(), 1e-9)
            show(axes, example.image, f"{name}: {share:.1%} in lesion\n({example.truth.mean():.1%} of the slice)")
            drawn = axes.imshow(weights, cmap="viridis", alpha=0.6, vmin=0, vmax=1)
            contour(axes, example.truth, TRUTH, "solid")
        row[0].set_ylabel(example.title, fontsize=7)
    figure.colorbar(drawn, ax=grid, shrink=0.6, label="gate weight")
    return figure


def curves(history: Sequence[Mapping[str, float]], best_epoch: int) -> Figure:
    """Losses and validation scores over the epochs, the epoch of the kept checkpoint marked."""
    figure = Figure(figsize=(WIDTH, WIDTH * 0.38), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    epochs = np.arange(1, len(history) + 1)
    for axes, names, label in (
        (losses, ("train/loss", "val/loss"), "loss"),
        (scores, ("val/dice", "val/dice_at_0.5", "val/iou"), "mean over validation patients"),
    ):
        for name, color, style in zip(names, (TRUTH, PREDICTION, THIRD), ("solid", "dashed", "dotted"), strict=False):
            values = [epoch[name] for epoch in history]
            axes.plot(epochs, values, color=color, linestyle=style, marker="o", markersize=2, label=name)
        axes.axvline(best_epoch, color="0.6", linewidth=0.8)
        axes.set(xlabel="epoch", ylabel=label)
        axes.legend(frameon=False, fontsize=7)
    scores.set_ylim(0, 1)
    return figure


def show(axes: Axes, image: np.ndarray, title: str) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)
    axes.set_title(title, fontsize=7)
    axes.set_xticks([])
    axes.set_yticks([])


def contour(axes: Axes, mask: np.ndarray, color: str, style: str) -> None:
    """The outline of a mask; nothing for an empty or a full one, which have none."""
    if mask.min() != mask.max():
        axes.contour(mask, levels=[0.5], colors=[color], linewidths=1.0, linestyles=[style])


def save(figures: Mapping[str, Figure], folder: Path) -> None:
    """Each figure as PNG and as PDF, whose lines stay lines in a paper."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=150)
        figure.savefig(folder / f"{name}.pdf")
