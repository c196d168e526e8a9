"""Asking a model: generation, scores of given answers, and observations of what it said.

A loaded model and questions come in. Texts, log-probabilities and observations go out.
"""
