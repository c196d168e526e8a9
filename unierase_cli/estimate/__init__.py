"""Estimates what a run needs, before anything is loaded.

Input: an experiment and the shape of its model. Output: memory, disk and early refusals.
"""
