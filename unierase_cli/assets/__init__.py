"""Small texts: words of the fictional benchmark, questions about the world, refusals, templates of new parts.

Nothing comes in. Benchmarks, token training and `unierase new` read the files as they are.
"""
