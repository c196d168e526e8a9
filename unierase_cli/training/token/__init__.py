"""Learning the rows of unlearning tokens.

Input: questions, refusals and a frozen model. Output: rows for the embedding and the head.
"""
