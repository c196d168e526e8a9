"""Unlearning methods, one per file.

Input: a loaded model, one step of the plan and a context. Output: a patch and the state for the next step.
"""
