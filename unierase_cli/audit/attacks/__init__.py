"""One file per attack, found by its name. Comes in: a target, one of the attack's cases, its settings. Goes out: rows.

What a file has is said in ``audit.base``. An attack leaves the model as it found it, to the bit.
"""
