"""Metrics as pure functions, one per file (the kinds of ROUGE share one).

Input: observations. Output: a number with its per-sample values, or the reason why there is none.
"""
