"""The training loop, and what any training needs: optimisers, checkpoints, precision, processes, adapters.

A model and an objective come in. Trained weights or rows go out.
"""
