"""Makes artefacts from one another: keys, reuse, interrupted versions, manifests, and the plan of a mode.

In: an experiment. Out: finished artefacts.
"""
