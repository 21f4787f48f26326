"""The pictures of a comparison, as SVG for a page: text stays text, and ink is the page's own, light or dark."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from attnunet.figures import sweep_scores
from attnunet.figures.style import FONT, PREDICTION, THIRD, TRUTH, WIDTH, printable

if TYPE_CHECKING:
    from attnunet.comparison.pairs import Pair, Question
    from attnunet.comparison.table import Comparison, Place

INK = "#010203"  # stands for the page's text colour until the SVG is written
LOOK: Any = {
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    **{"font.size": FONT, "svg.fonttype": "none", "svg.hashsalt": "attnunet", "legend.frameon": False},
}
PAIRS = 45  # that one picture shows: all of ten rows; of more rows, those of the first
COLORS = {"better": THIRD, "worse": TRUTH, "equivalent": PREDICTION, "undecided": "#888888"}
MARKS = {"better": "^", "worse": "v", "equivalent": "s", "undecided": "o"}


def draw_all(comparison: Comparison) -> dict[str, str]:
    """Each picture's SVG by its name; those that would show nothing are left out."""
    standings, question = comparison.standings, comparison.question
    with mpl.rc_context(LOOK):
        figures = {"intervals": draw_intervals(standings, question.score)}
        if comparison.pairs:
            figures["pairs"] = draw_differences(choose_pairs(comparison.pairs), question)
            figures["patients"] = draw_patients(comparison.scores, question.score)
            figures["time"] = draw_minutes(standings, question.score)
        if sweep := sweep_scores(comparison.swept, [row.mean for row in standings]):
            figures["parameters"] = sweep
        return {name: as_svg(name, figure) for name, figure in figures.items()}


def choose_pairs(compared: Sequence[Pair]) -> list[Pair]:
    """The pairs that are drawn: all, or those of the first row where all are too many for one picture."""
    return list(compared) if len(compared) <= PAIRS else [pair for pair in compared if pair.first == 0]


def draw_intervals(standings: Sequence[Place], score: str) -> Figure:
    """A line a row, best first: mean and interval."""
    figure = Figure(figsize=(WIDTH, 0.5 + 0.2 * len(standings)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(standings):
        axes.plot([row.low, row.high], [place, place], color=PREDICTION, linewidth=2.5, solid_capstyle="butt")
        axes.plot(row.mean, place, "o", color=TRUTH, markersize=5)
    rank_axis(axes, [f"{standing.rank}  {printable(standing.row.name, WIDTH * 0.45)}" for standing in standings])
    axes.set_xlabel(f"{score}: mean over patients with its interval")
    return figure


def draw_differences(compared: Sequence[Pair], question: Question) -> Figure:
    """A line a pair: mean difference and interval, the margin shaded, the verdict by colour and shape."""
    figure = Figure(figsize=(WIDTH, 0.75 + 0.17 * len(compared)), layout="constrained")
    axes = figure.subplots()
    axes.axvspan(-question.margin, question.margin, color="#888888", alpha=0.25, linewidth=0)
    axes.axvline(0, color=INK, linewidth=0.8)
    for place, pair in enumerate(compared):
        color = COLORS[pair.verdict]
        axes.plot([pair.low, pair.high], [place, place], color=color, linewidth=2, solid_capstyle="butt")
        axes.plot(pair.difference, place, MARKS[pair.verdict], color=color, markersize=5)
    for verdict in dict.fromkeys(pair.verdict for pair in compared):
        axes.plot([], [], MARKS[verdict], color=COLORS[verdict], linestyle="-", linewidth=2, markersize=5, label=verdict)
    rank_axis(axes, [f"{pair.first + 1} less {pair.second + 1}" for pair in compared])
    axes.set_xlabel(f"{question.score}: mean difference over patients with its interval; shaded: margin")
    figure.legend(loc="outside lower center", ncols=4)
    return figure


def rank_axis(axes: Axes, labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#888888", alpha=0.3, linewidth=0.5)
    axes.spines[["top", "right", "left"]].set_visible(False)


def draw_patients(scores: np.ndarray, score: str) -> Figure:
    """A dot a patient in each row, joined across the rows; the rows' means over them."""
    figure = Figure(figsize=(WIDTH, WIDTH * 0.45), layout="constrained")
    axes = figure.subplots()
    ranks = np.arange(1, len(scores) + 1)
    for patient in scores.T:
        axes.plot(ranks, patient, "o-", color=PREDICTION, markersize=3, linewidth=0.6, alpha=0.8)
    means = [np.mean(row[~np.isnan(row)]) if not np.isnan(row).all() else math.nan for row in scores]
    axes.plot(ranks, means, "_", color=TRUTH, markersize=18, markeredgewidth=2.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=min(len(ranks), 10)))
    axes.set_xlim(0.5, len(ranks) + 0.5)
    axes.set_xlabel("row of the leaderboard")
    axes.set_ylabel(f"{score} of each patient (bar: mean)")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_minutes(standings: Sequence[Place], score: str) -> Figure:
    """A point a row, under its number: the score over the minutes that it cost."""
    figure = Figure(figsize=(WIDTH, WIDTH * 0.4), layout="constrained")
    axes = figure.subplots()
    for row in standings:
        axes.plot([row.minutes] * 2, [row.low, row.high], color=PREDICTION, linewidth=1.5, alpha=0.6)
        axes.plot(row.minutes, row.mean, "o", color=TRUTH, markersize=5)
        axes.annotate(str(row.rank), (row.minutes, row.mean), (4, 3), textcoords="offset points")
    axes.set_xlim(left=0)
    axes.set_xlabel("minutes of a run, from start to end")
    axes.set_ylabel(f"{score}, mean with its interval")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def as_svg(name: str, figure: Figure) -> str:
    """The `<svg>` element, as wide as its share of a page's column and not too narrow to be read.

    Its ids are marked by the figure's name, since several stand on one page.
    """
    stream = io.StringIO()
    figure.savefig(stream, format="svg", transparent=True)
    text = re.sub(r"<metadata>.*?</metadata>", "", stream.getvalue().partition("<svg")[2], flags=re.DOTALL)

    def mark(tag: re.Match[str]) -> str:
        marked = re.sub(r'( id="|href="#|url\(#)', rf"\1{name}-", tag[0])
        return marked.replace(INK, "currentColor")

    text = re.sub(r"<[^>]*>", mark, text)  # tags alone, not the names that stand between them
    share = figure.get_figwidth() / WIDTH
    style = f"width: {share:.0%}; min-width: {44 * share:.0f}rem"
    return f'<svg role="img" aria-labelledby="{name}-caption" style="{style}"{text}'
