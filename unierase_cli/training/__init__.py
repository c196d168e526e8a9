"""The training loop and its parts: optimisers, checkpoints, precision, processes, adapters.

Training takes a model and an objective and returns trained weights or rows.
"""
