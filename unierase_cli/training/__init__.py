"""The training loop and its parts: optimisers, checkpoints, precision, processes, adapters.

Input: a model and an objective. Output: trained weights or rows.
"""
