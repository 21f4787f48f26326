"""Metrics: from masks and counts to the scores of patients, summaries and statistics. Works on plain arrays."""
