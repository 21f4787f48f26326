"""The figures of a comparison: as SVG for an HTML page, whose text takes the page's colour, and as files for a paper."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from attnunet.figures import sweep_scores
from attnunet.figures.style import FONT, PREDICTION, THIRD, TRUTH, WIDTH, format_name, lay_out
from attnunet.metrics import catalog
from attnunet.metrics.scores import nan_mean

if TYPE_CHECKING:
    from attnunet.comparison.pairs import Pair
    from attnunet.comparison.table import Comparison, Place

INK = "#010203"  # as_svg replaces this colour by the text colour of the page
LOOK: Any = {
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    **{"font.size": FONT, "svg.fonttype": "none", "svg.hashsalt": "attnunet", "legend.frameon": False},
}
PAPER: Any = {
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), "black"),
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "white"),
    **{"font.size": FONT, "svg.fonttype": "path", "svg.hashsalt": "attnunet", "pdf.fonttype": 42, "legend.frameon": False},
}
"""The look of the files: black on white, with the shapes of letters in each file, so that they look alike everywhere."""
PAIRS = 45  # most pairs in a figure, as many as ten rows have; with more, only those of the first row
COLORS = {"better": THIRD, "worse": TRUTH, "equivalent": PREDICTION, "undecided": "#888888"}
MARKS = {"better": "^", "worse": "v", "equivalent": "s", "undecided": "o"}


def draw_all(comparison: Comparison) -> dict[str, str]:
    """Return the SVG text of each figure for a page, by the name of the figure."""
    with mpl.rc_context(LOOK):
        return {name: as_svg(name, figure) for name, figure in draw_figures(comparison).items()}


def save_all(comparison: Comparison, folder: Path) -> None:
    """Write each figure as a PDF file and as an SVG file. The bytes of a file depend on the comparison alone."""
    folder.mkdir(parents=True, exist_ok=True)
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells of each table of a font
    with mpl.rc_context(PAPER):
        for name, figure in draw_figures(comparison).items():
            lay_out(figure)
            figure.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None})
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})


def draw_figures(comparison: Comparison) -> dict[str, Figure]:
    """Return each figure by name. A figure with nothing to show is left out."""
    standings, question = comparison.standings, comparison.question
    label = catalog.metric(question.score).axis
    figures = {"intervals": draw_intervals(standings, label)}
    if comparison.pairs:
        figures["pairs"] = draw_differences(choose_pairs(comparison.pairs), question.margin, label)
        figures["patients"] = draw_patients(comparison.scores, label)
        figures["time"] = draw_minutes(standings, label)
    if sweep := sweep_scores(comparison.swept, [row.mean for row in standings]):
        figures["parameters"] = sweep
    return figures


def choose_pairs(compared: Sequence[Pair]) -> list[Pair]:
    """Return the pairs to draw: all pairs, or only the pairs of the first row if there are more than PAIRS."""
    return list(compared) if len(compared) <= PAIRS else [pair for pair in compared if pair.first == 0]


def draw_intervals(standings: Sequence[Place], label: str) -> Figure:
    """Draw the mean of each row with its interval, the best row first."""
    figure = Figure(figsize=(WIDTH, 0.5 + 0.2 * len(standings)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(standings):
        axes.plot([row.low, row.high], [place, place], color=PREDICTION, linewidth=2.5, solid_capstyle="butt")
        axes.plot(row.mean, place, "o", color=TRUTH, markersize=5)
    rank_axis(axes, [f"{standing.rank}  {format_name(standing.row.name, WIDTH * 0.45)}" for standing in standings])
    axes.set_xlabel(f"{label}: mean over patients with its interval")
    return figure


def draw_differences(compared: Sequence[Pair], margin: float, label: str) -> Figure:
    """Draw the mean difference of each pair with its interval.

    The margin is shaded. Colour and shape of a mark show the verdict.
    """
    figure = Figure(figsize=(WIDTH, 0.75 + 0.17 * len(compared)), layout="constrained")
    axes = figure.subplots()
    axes.axvspan(-margin, margin, color="#888888", alpha=0.25, linewidth=0)
    axes.axvline(0, color=mpl.rcParams["text.color"], linewidth=0.8)
    for place, pair in enumerate(compared):
        color = COLORS[pair.verdict]
        axes.plot([pair.low, pair.high], [place, place], color=color, linewidth=2, solid_capstyle="butt")
        axes.plot(pair.difference, place, MARKS[pair.verdict], color=color, markersize=5)
    for verdict in dict.fromkeys(pair.verdict for pair in compared):
        axes.plot([], [], MARKS[verdict], color=COLORS[verdict], linestyle="-", linewidth=2, markersize=5, label=verdict)
    rank_axis(axes, [f"{pair.first + 1} less {pair.second + 1}" for pair in compared])
    axes.set_xlabel(f"{label}: mean difference over patients with its interval; shaded: margin")
    figure.legend(loc="outside lower center", ncols=4)
    return figure


def rank_axis(axes: Axes, labels: Sequence[str]) -> None:
    """Set labels at the positions 0, 1, 2, ... of the vertical axis, with 0 at the top."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#888888", alpha=0.3, linewidth=0.5)
    axes.spines[["top", "right", "left"]].set_visible(False)


def draw_patients(scores: np.ndarray, label: str) -> Figure:
    """Draw the scores of each patient as dots, connected by a line from row to row, and the mean of each row."""
    figure = Figure(figsize=(WIDTH, WIDTH * 0.45), layout="constrained")
    axes = figure.subplots()
    ranks = np.arange(1, len(scores) + 1)
    for patient in scores.T:
        axes.plot(ranks, patient, "o-", color=PREDICTION, markersize=3, linewidth=0.6, alpha=0.8)
    axes.plot(ranks, [nan_mean(row) for row in scores], "_", color=TRUTH, markersize=18, markeredgewidth=2.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=min(len(ranks), 10)))
    axes.set_xlim(0.5, len(ranks) + 0.5)
    axes.set_xlabel("row of the leaderboard")
    axes.set_ylabel(f"{label} of each patient (bar: mean)")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_minutes(standings: Sequence[Place], label: str) -> Figure:
    """Draw the mean score of each row, with its interval, against the minutes of a run. Each point has the row's number."""
    figure = Figure(figsize=(WIDTH, WIDTH * 0.4), layout="constrained")
    axes = figure.subplots()
    for row in standings:
        axes.plot([row.minutes] * 2, [row.low, row.high], color=PREDICTION, linewidth=1.5, alpha=0.6)
        axes.plot(row.minutes, row.mean, "o", color=TRUTH, markersize=5)
        axes.annotate(str(row.rank), (row.minutes, row.mean), (4, 3), textcoords="offset points")
    axes.set_xlim(left=0)
    axes.set_xlabel("minutes of a run's epochs, with their validation")
    axes.set_ylabel(f"{label}, mean with its interval")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def as_svg(name: str, figure: Figure) -> str:
    """Return the `<svg>` element of a figure.

    The figure scales with the column of the page, but stays wide enough to read. All ids in the element begin with the
    name of the figure, because a page contains several figures.
    """
    stream = io.StringIO()
    figure.savefig(stream, format="svg", transparent=True)
    text = re.sub(r"<metadata>.*?</metadata>", "", stream.getvalue().partition("<svg")[2], flags=re.DOTALL)

    def mark(tag: re.Match[str]) -> str:
        marked = re.sub(r'( id="|href="#|url\(#)', rf"\1{name}-", tag[0])
        return marked.replace(INK, "currentColor")

    text = re.sub(r"<[^>]*>", mark, text)  # changes the tags only, not the text between tags
    share = figure.get_figwidth() / WIDTH
    style = f"width: {share:.0%}; min-width: {44 * share:.0f}rem"
    return f'<svg role="img" aria-labelledby="{name}-caption" style="{style}"{text}'
