"""Files of other code bases: logs and results that they wrote or that they read.

Their json comes in. Observations and metric results go out, or the other way round.
"""
