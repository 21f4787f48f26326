"""Figures for a paper's column: one look, colours that the colour-blind tell apart, no state of pyplot's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

# Okabe and Ito 2008.
TRUTH, PREDICTION, THIRD = "#E69F00", "#56B4E9", "#009E73"
WIDTH = 7.0  # inches, two columns
FONT = 7  # points


@dataclass(frozen=True)
class Example:
    """One slice of a patient: image (h, w) in [0, 255], truth and prediction (h, w) of 0 and 1, gates (h, w) in [0, 1]."""

    title: str
    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    gates: Mapping[str, np.ndarray]


def of_run(examples: Sequence[Example], history: Sequence[Mapping[str, float]], best_epoch: int) -> dict[str, Figure]:
    """The figures of one run by name: "curves", and of its examples "predictions" and, where it has gates, "gates"."""
    figures = {"curves": curves(history, best_epoch)}
    if examples:
        figures["predictions"] = predictions(examples)
    if examples and examples[0].gates:
        figures["gates"] = gate_maps(examples)
    return figures


def predictions(examples: Sequence[Example]) -> Figure:
    """A row an example: the slice, the same with truth and prediction as contours."""
    figure = Figure(figsize=(WIDTH * 0.6, WIDTH * 0.34 * len(examples) + 0.2), layout="constrained")
    grid = figure.subplots(len(examples), 2, squeeze=False)
    for (plain, drawn), example in zip(grid, examples, strict=True):
        show(plain, example.image, example.title)
        show(drawn, example.image, "")
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
            show(axes, example.image, f"{name.removesuffix('_map')}: {share:.1%} in lesion")
            drawn = axes.imshow(weights, cmap="viridis", alpha=0.6, vmin=0, vmax=1)
            contour(axes, example.truth, TRUTH, "solid")
        row[0].set_ylabel(f"{example.title}\nlesion: {example.truth.mean():.1%} of the slice", fontsize=FONT - 1)
    bar = figure.colorbar(drawn, ax=grid, shrink=0.6, aspect=30, pad=0.02)
    bar.set_label("gate weight", fontsize=FONT)
    bar.ax.tick_params(labelsize=FONT)
    legend(figure, truth=(TRUTH, "solid"))
    return figure


def of_sweep(parameters: Mapping[str, Sequence[str]], scores: Sequence[float]) -> Figure | None:
    """A panel for each swept parameter: the jobs' scores over its values, in the order of numbers where all are numbers.

    None where nothing was swept or nothing has a score.
    """
    if not parameters or np.isnan(scores).all():
        return None
    columns = min(len(parameters), 3)
    rows = -(-len(parameters) // columns)
    figure = Figure(figsize=(WIDTH / 3 * max(columns, 2), WIDTH / 3 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axes, (name, values) in zip(panels, parameters.items(), strict=False):
        order = sorted(set(values), key=number_or_text)
        axes.plot([order.index(value) for value in values], scores, "o", color=PREDICTION, markeredgecolor="black", alpha=0.8)
        means = [np.nanmean(found) if not np.isnan(found).all() else np.nan for found in grouped(values, scores, order)]
        axes.plot(range(len(order)), means, "_", color=TRUTH, markersize=18, markeredgewidth=2)
        axes.set_xticks(range(len(order)), order, rotation=30 if max(map(len, order)) > 6 else 0)
        axes.set_xlim(-0.5, len(order) - 0.5)
        axes.set_xlabel(name, fontsize=FONT)
        axes.tick_params(labelsize=FONT)
    for axes in panels[::columns]:
        axes.set_ylabel("score (bar: mean)", fontsize=FONT)
    for axes in panels[len(parameters) :]:
        axes.set_visible(False)
    return figure


def grouped(values: Sequence[str], scores: Sequence[float], order: Sequence[str]) -> list[np.ndarray]:
    return [np.array([s for v, s in zip(values, scores, strict=True) if v == value]) for value in order]


def number_or_text(value: str) -> tuple[bool, float, str]:
    """Sorts numbers by size, before text by letters."""
    try:
        return False, float(value), value
    except ValueError:
        return True, 0.0, value


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
        axes.axvline(best_epoch, color="0.6", linewidth=0.8, label=f"kept: epoch {best_epoch}")
        axes.set_xlabel("epoch", fontsize=FONT)
        axes.set_ylabel(label, fontsize=FONT)
        axes.tick_params(labelsize=FONT)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
        axes.legend(frameon=False, fontsize=FONT)
    scores.set_ylim(0, 1)
    return figure


def show(axes: Axes, image: np.ndarray, title: str) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)
    axes.set_title(title, fontsize=FONT)
    axes.set_xticks([])
    axes.set_yticks([])


def contour(axes: Axes, mask: np.ndarray, color: str, style: str) -> None:
    """The outline of a mask, closed along the image's edge; nothing for an empty one."""
    if not mask.any():
        return
    height, width = mask.shape
    drawn = axes.contour(
        np.arange(-1, width + 1),
        np.arange(-1, height + 1),
        np.pad(mask, 1),
        levels=[0.5],
        colors=[color],
        linewidths=1.0,
        linestyles=[style],
    )
    drawn.set_path_effects([withStroke(linewidth=1.8, foreground="black")])  # to stand out on bright tissue
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def legend(figure: Figure, **lines: tuple[str, Any]) -> None:
    """Below the whole figure: each line's label with its colour and style."""
    handles = [Line2D([], [], color=color, linestyle=style, label=label) for label, (color, style) in lines.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(lines), frameon=False, fontsize=FONT)


def save(figures: Mapping[str, Figure], folder: Path) -> None:
    """Each figure as PNG and as PDF, whose lines stay lines in a paper."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=150)
        figure.savefig(folder / f"{name}.pdf")
