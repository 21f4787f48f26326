"""Comparing runs: from rows and pairs to verdicts, figures and a page. Works on plain data."""
