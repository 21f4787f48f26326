"""Figures for a paper's columns, as matplotlib objects without pyplot's state; see `style` for what they share."""

from attnunet.figures.examples import Example, gate_maps, predictions
from attnunet.figures.scores import patients, reliability
from attnunet.figures.style import save
from attnunet.figures.sweep import of_sweep
from attnunet.figures.training import curves, decision

__all__ = ["Example", "curves", "decision", "gate_maps", "of_sweep", "patients", "predictions", "reliability", "save"]
