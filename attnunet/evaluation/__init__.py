"""Scoring a network on patients, scoring a finished run again, joining folds."""
