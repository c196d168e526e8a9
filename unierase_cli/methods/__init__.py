"""Unlearning methods, one per file.

A method takes a loaded model, one step of the plan and a context, and returns a patch and the state for the next step.
"""
