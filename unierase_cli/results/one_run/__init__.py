"""The report of one run.

In: its metrics, steps and observations. Out: tables and pictures.
"""
