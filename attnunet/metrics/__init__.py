"""Metrics: the scores of patients from masks and counts, summaries and statistics. The package works on plain arrays."""
