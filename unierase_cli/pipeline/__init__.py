"""What needs what: keys, reuse, interrupted versions, manifests, and the plan of a mode.

An experiment comes in. Finished artefacts go out.
"""
