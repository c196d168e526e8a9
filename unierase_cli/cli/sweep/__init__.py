"""Many runs from one command.

In: words with several values. Out: a plan of runs, their results as they finish, and one table over all of them.
"""
