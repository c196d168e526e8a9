"""Inputs of gradient methods: pairs of forget and retain rows, references, and the objective.

The objective takes facts and loss terms and produces batches and a loss.
"""
