"""Figures as wide as the columns of a paper. They are matplotlib objects without pyplot's state, in the style of `style`."""

from attnunet.figures.examples import Example, gate_maps, predictions
from attnunet.figures.outlines import outlines
from attnunet.figures.scores import patients, reliability
from attnunet.figures.style import save_figures
from attnunet.figures.sweep import sweep_scores
from attnunet.figures.training import curves, decision, progress

__all__ = [
    "Example",
    "curves",
    "decision",
    "gate_maps",
    "outlines",
    "patients",
    "predictions",
    "progress",
    "reliability",
    "save_figures",
    "sweep_scores",
]
