"""Loss terms, one formula per file.

Input: the model's outputs on batches of rows. Output: one value per token, row or position.
"""
