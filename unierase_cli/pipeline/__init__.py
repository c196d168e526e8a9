"""Makes artefacts from one another: keys, reuse, interrupted versions, manifests, and the plan of a mode.

Input: an experiment. Output: finished artefacts.
"""
