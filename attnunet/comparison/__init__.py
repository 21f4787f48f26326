"""Comparing runs: the rows of a leaderboard, pairs of rows, verdicts, tables and a page."""
