"""Estimates what a run needs, before anything is loaded.

In: an experiment and the shape of its model. Out: memory, disk and early refusals.
"""
