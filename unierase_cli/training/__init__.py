"""The training loop and its parts: optimisers, checkpoints, precision, processes, adapters.

A model and an objective come in. Trained weights or rows go out.
"""
