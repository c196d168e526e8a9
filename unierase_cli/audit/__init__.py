"""Attacks on a model that was made to forget: can its facts be had back, more easily than from a model that never had them?

Comes in: a loaded model, the facts, an attack's settings. Goes out: rows of answers and scores, and the numbers, intervals and
words that are made of three models' rows. What is attacked, and where rows are kept, stages decide.
"""
