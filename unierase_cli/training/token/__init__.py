"""Learning the rows of unlearning tokens.

Training takes questions, refusals and a frozen model, and returns rows for the embedding and the head.
"""
