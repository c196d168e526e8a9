"""One table over many runs.

Input: scored runs. Output: rows pooled over seeds, sorted by balance, as tables, csv and a picture.
"""
