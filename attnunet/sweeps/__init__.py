"""Hydra: how a command starts, how a sweep is checked, searched and composed."""
