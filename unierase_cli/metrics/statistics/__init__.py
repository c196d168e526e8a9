"""Intervals, paired tests, rank correlations and aggregates.

Input: per-row values. Output: intervals, p-values and means.
"""
