"""Counts -> per-patient rows -> summaries, statistics, figures; works on plain arrays and ids."""
