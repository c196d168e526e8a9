"""Intervals, paired tests, rank correlations and aggregates.

Functions take per-row values and return intervals, p-values and means.
"""
