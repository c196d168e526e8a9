"""Loss terms, one formula per file.

Outputs of a model on batches of rows come in. A value per token, row or position goes out.
"""
