"""One table over many runs.

In: scored runs. Out: rows pooled over seeds, sorted by balance, as tables, csv and a picture.
"""
