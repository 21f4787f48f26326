"""Figures for a paper's columns, as matplotlib objects without pyplot's state; see `style` for what they share."""

from attnunet.evaluation.figures.examples import Example, gate_maps, predictions
from attnunet.evaluation.figures.scores import patients, reliability
from attnunet.evaluation.figures.style import save
from attnunet.evaluation.figures.sweep import of_sweep
from attnunet.evaluation.figures.training import curves, decision

__all__ = ["Example", "curves", "decision", "gate_maps", "of_sweep", "patients", "predictions", "reliability", "save"]
