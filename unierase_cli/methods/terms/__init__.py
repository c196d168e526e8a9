"""Loss terms, one formula per file.

Scores of batches of rows come in. A value per token or per row goes out.
"""
