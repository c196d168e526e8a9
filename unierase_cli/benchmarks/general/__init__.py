"""Suites of general ability, one per file.

Files of questions come in. Prompts, and a rule that scores an answer, go out.
"""
