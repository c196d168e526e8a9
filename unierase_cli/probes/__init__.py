"""Further passes over a model that some metrics need, one per file.

A loaded model and rows come in. A row of numbers per fact goes out.
"""
