"""Many runs from one command.

Words with several values come in. A plan of runs, their outcomes as they end, and one table over all of them go out.
"""
