"""Small texts of the project: the words of the fictional benchmark, refusals, and templates of new parts.

Nothing comes in. Benchmarks, token training and `unierase new` read the files as they are.
"""
