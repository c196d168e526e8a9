"""Many runs from one command.

Input: words with several values. Output: a plan of runs, their results as they finish, and one table over all of them.
"""
