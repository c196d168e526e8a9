"""Files of other code bases: logs and results that they wrote or that they read.

Readers turn their JSON into observations and measures; writers do the reverse.
"""
