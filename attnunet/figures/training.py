"""Figures of a training, and of how the decision was chosen."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from attnunet.figures.style import (
    FONT,
    PREDICTION,
    THIRD,
    TRUTH,
    WIDTH,
    contour,
    format_name,
    legend,
    name_places,
    show_image,
)
from attnunet.metrics.decision import Choice

MOST = 8
"""The largest number of epochs in the figure of the progress."""


def curves(history: Sequence[Mapping[str, float]], best_epoch: int) -> Figure:
    """Draw the losses and the validation scores of all epochs. A line marks the epoch of the kept checkpoint.

    If nobody validates, the panel of the scores is left out.
    """
    figure = Figure(figsize=(WIDTH, WIDTH * 0.38), layout="constrained")
    panels = {"loss": ("train/loss", "val/loss"), "mean over validation patients": ("val/dice", "val/dice_at_0.5", "val/iou")}
    shown = {label: [name for name in names if name in history[0]] for label, names in panels.items()}
    shown = {label: names for label, names in shown.items() if names}
    epochs = np.arange(1, len(history) + 1)
    for axes, (label, names) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown.items(), strict=True):
        for name, color, style in zip(names, (TRUTH, PREDICTION, THIRD), ("solid", "dashed", "dotted"), strict=False):
            values = [epoch[name] for epoch in history]
            axes.plot(epochs, values, color=color, linestyle=style, marker="o", markersize=2, label=name)
        axes.axvline(best_epoch, color="0.6", linewidth=0.8, label=f"kept: epoch {best_epoch}")
        axes.set_xlabel("epoch", fontsize=FONT)
        axes.set_ylabel(label, fontsize=FONT)
        axes.tick_params(labelsize=FONT)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
        axes.legend(frameon=False, fontsize=FONT)
        if label != "loss":
            axes.set_ylim(0, 1)
    return figure


def progress(
    titles: Sequence[str],
    images: Sequence[np.ndarray],
    truths: Sequence[np.ndarray],
    masks: Mapping[int, Sequence[np.ndarray]],
    best_epoch: int,
) -> Figure:
    """Draw how the predictions develop: a row for each slice, and a column for each of at most MOST epochs.

    Args:
        titles: the name of each slice.
        images: each slice, (h, w) in [0, 255].
        truths: the reference masks, (h, w) of 0 and 1.
        masks: the predicted masks of the slices, by epoch.
        best_epoch: the epoch of the kept checkpoint, which is always drawn.
    """
    places = np.linspace(0, len(masks) - 1, min(MOST - 1, len(masks))).round().astype(int)
    epochs = sorted({*np.array(sorted(masks))[places].tolist(), *({best_epoch} & set(masks))})
    side = WIDTH / max(len(epochs), 3)
    figure = Figure(figsize=(side * len(epochs), (side + 0.1) * len(images) + 0.3), layout="constrained")
    grid = figure.subplots(len(images), len(epochs), squeeze=False)
    for place, (row, title, image, truth) in enumerate(zip(grid, titles, images, truths, strict=True)):
        for axes, epoch in zip(row, epochs, strict=True):
            kept = ", kept" if epoch == best_epoch else ""
            show_image(axes, image, "" if place else f"epoch {epoch}{kept}")
            contour(axes, truth, TRUTH, "solid")
            contour(axes, masks[epoch][place], PREDICTION, "dashed")
        row[0].set_ylabel(format_name(title, side, FONT - 2), fontsize=FONT - 2)
    legend(figure, truth=(TRUTH, "solid"), prediction=(PREDICTION, "dashed"))
    return figure


def decision(choice: Choice) -> Figure:
    """Draw the mean Dice for each threshold, and for each post-processing at the best threshold. A ring marks the choice."""
    figure = Figure(figsize=(WIDTH, WIDTH * 0.38), layout="constrained")
    curve, processing = figure.subplots(1, 2)
    chosen = choice.decision
    ring = {"marker": "o", "markersize": 9, "markerfacecolor": "none", "markeredgecolor": "black", "linestyle": "none"}

    thresholds = {trial.decision.threshold: trial.dice for trial in choice.thresholds}
    curve.plot(thresholds.keys(), thresholds.values(), color=PREDICTION, marker="o", markersize=3)
    if chosen.threshold in thresholds:
        curve.plot([chosen.threshold], [thresholds[chosen.threshold]], **ring, label=f"chosen: {chosen.threshold:g}")
    curve.set_xlim(0, 1)
    curve.set_ylim(0, 1.1 * np.nanmax([0.01, *thresholds.values()]))
    curve.set_xlabel("threshold, without post-processing", fontsize=FONT)

    sizes = sorted({trial.decision.smallest_lesion for trial in choice.processing})
    for filled, color, style in ((False, PREDICTION, "solid"), (True, TRUTH, "dashed")):
        tried = [trial for trial in choice.processing if trial.decision.fill_holes == filled]
        places = [sizes.index(trial.decision.smallest_lesion) for trial in tried]
        if tried:
            label = "holes filled" if filled else "holes left"
            scores = [trial.dice for trial in tried]
            processing.plot(places, scores, color=color, linestyle=style, marker="o", markersize=3, label=label)
    (best,) = [trial.dice for trial in choice.processing if trial.decision == chosen]
    holes = "filled" if chosen.fill_holes else "left"
    label = f"chosen: {chosen.smallest_lesion} voxels, holes {holes}"
    processing.plot([sizes.index(chosen.smallest_lesion)], [best], **ring, label=label)
    name_places(processing, [str(size) for size in sizes], WIDTH / 2 - 0.5)
    processing.set_xlabel(f"smallest lesion, voxels, at the threshold {chosen.threshold:g}", fontsize=FONT)

    for axes in (curve, processing):
        axes.set_ylabel("mean Dice, validation patients", fontsize=FONT)
        axes.tick_params(labelsize=FONT)
        axes.legend(frameon=False, fontsize=FONT)
    return figure
