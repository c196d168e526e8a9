"""Inputs of gradient methods: pairs of forget and retain rows, references, and the objective.

Facts and loss terms come in. Batches and a loss go out.
"""
