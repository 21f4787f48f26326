"""Runs side by side: rows -> pairs -> figures, page; works on plain data, and no part of a run's fingerprint."""
