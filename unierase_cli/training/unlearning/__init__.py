"""Inputs of gradient methods: pairs of forget and retain rows, references, and the objective.

Input: facts and loss terms. Output: batches and a loss.
"""
