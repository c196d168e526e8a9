"""Loss terms, one formula per file.

A term takes the model's outputs on batches of rows and returns one value per token, row or position.
"""
