"""Unlearning methods, one per file.

A loaded model, one step of the plan and a context come in. A patch and a state for the next step go out.
"""
