"""Evaluation: scoring a network on patients, scoring a finished run again, and joining the folds of a cross-validation."""
