"""Figures of a predictor's scores: the scores of patients and the calibration."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from attnunet.figures.style import FONT, PREDICTION, TRUTH, WIDTH, labels
from attnunet.metrics.calibration import BINS, Calibration

NAMED = 45  # most patients whose names fit beside the figure


def patients(names: Sequence[str], scores: Sequence[float], mean: float, interval: tuple[float, float], label: str) -> Figure:
    """Draw a dot for each patient, with the best score on top, and the mean with its interval. NaN scores are left out."""
    shown = labels(names, WIDTH / 4, FONT - 1)
    ranked = sorted((score, name) for score, name in zip(scores, shown, strict=True) if not np.isnan(score))
    height = min(0.6 + 0.13 * len(ranked), WIDTH)
    figure = Figure(figsize=(WIDTH / 2, max(height, 1.4)), layout="constrained")
    axes = figure.subplots()
    low, high = interval
    if not np.isnan(low):
        axes.axvspan(low, high, color=TRUTH, alpha=0.3, linewidth=0, label=f"95 % interval {low:.3f} to {high:.3f}")
    axes.axvline(mean, color=TRUTH, linewidth=1.2, label=f"mean {mean:.3f}")
    dots = [score for score, _ in ranked]
    axes.plot(dots, range(len(ranked)), "o", color=PREDICTION, markeredgecolor="black", markersize=4, markeredgewidth=0.5)
    if len(ranked) <= NAMED:
        axes.set_yticks(range(len(ranked)), [name for _, name in ranked])
    else:
        axes.set_yticks([])
        axes.set_ylabel(f"{len(ranked)} patients", fontsize=FONT)
    axes.grid(axis="y", color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.6, len(ranked) - 0.4))
    axes.set_xlabel(label, fontsize=FONT)
    axes.tick_params(labelsize=FONT - 1)
    figure.legend(loc="outside lower center", frameon=False, fontsize=FONT, ncols=2)
    return figure


def reliability(calibration: Calibration) -> Figure:
    """Draw how the share of lesion depends on the predicted probability.

    The upper plot has a dot for each bin that has pixels, at the bin's mean probability and share of lesion. The lower plot
    shows the number of pixels of each bin.
    """
    figure = Figure(figsize=(WIDTH / 2, WIDTH / 2), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    filled = calibration.pixels > 0
    pixels, lesion = calibration.pixels[filled], calibration.lesion[filled]
    probability = calibration.probability[filled] / pixels
    above.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, label="calibrated")
    label = f"expected calibration error {calibration.ece:.3f}"
    above.plot(probability, lesion / pixels, "o-", color=PREDICTION, markeredgecolor="black", markersize=4, label=label)
    above.set(xlim=(0, 1), ylim=(0, 1))
    above.set_ylabel("share of lesion", fontsize=FONT)
    above.legend(frameon=False, fontsize=FONT, loc="upper left")
    edges = np.linspace(0, 1, BINS + 1)
    below.bar(edges[:-1][filled], pixels, 1 / BINS, align="edge", color=PREDICTION, edgecolor="black", linewidth=0.5, log=True)
    below.set_ylim(0.5, 2 * max(10, pixels.max()))
    below.yaxis.set_minor_formatter(NullFormatter())  # labels of minor ticks would overlap for similar counts
    below.set_ylabel("pixels", fontsize=FONT)
    below.set_xlabel("probability of lesion, pixels near lesions", fontsize=FONT)
    for axes in (above, below):
        axes.tick_params(labelsize=FONT)
    return figure
