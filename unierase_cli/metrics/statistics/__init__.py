"""Intervals, paired tests, rank correlations and aggregates.

Per-row values come in. Intervals, p-values and means go out.
"""
