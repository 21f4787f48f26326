"""Splits and data sets in the forms of other tools."""
