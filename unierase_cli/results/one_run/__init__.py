"""The report of one run.

Its metrics, steps and observations come in. Tables and pictures go out.
"""
