"""One table over many runs.

Scored runs come in. Rows pooled over seeds, sorted by the balance, go out as tables, csv and a picture.
"""
