"""The figure of the scores in a sweep."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from attnunet.figures.style import FONT, PREDICTION, TRUTH, WIDTH, format_name, name_places
from attnunet.metrics.scores import nan_mean


def sweep_scores(parameters: Mapping[str, Sequence[str]], scores: Sequence[float]) -> Figure | None:
    """Draw a panel for each swept parameter. It shows the scores of the jobs for each value, and the mean for each value.

    Returns:
        The figure. It is None if no parameter was swept or no job has a score.
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
        means = [nan_mean(np.array([s for v, s in zip(values, scores, strict=True) if v == value])) for value in order]
        axes.plot(range(len(order)), means, "_", color=TRUTH, markersize=18, markeredgewidth=2)
        name_places(axes, order, figure.get_figwidth() / columns - 0.5)
        axes.set_xlim(-0.5, len(order) - 0.5)
        axes.set_xlabel(format_name(name, WIDTH / 3), fontsize=FONT)
        axes.tick_params(labelsize=FONT)
    for axes in panels[::columns]:
        axes.set_ylabel("score (bar: mean)", fontsize=FONT)
    for axes in panels[len(parameters) :]:
        axes.set_visible(False)
    return figure


def number_or_text(value: str) -> tuple[bool, float, str]:
    """Return a sort key. Numbers come first, sorted by size. Other text follows in alphabetical order."""
    try:
        return False, float(value), value
    except ValueError:
        return True, 0.0, value
