"""Metrics as pure functions, one per file (the kinds of ROUGE share one).

Observations come in. Numbers with their samples go out, or the reason why there is none.
"""
