"""Files of other code bases: logs and results that they wrote or that they read.

Their JSON comes in. Observations and metric results go out, or the other way round.
"""
