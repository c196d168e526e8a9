"""Suites of general ability, one per file.

Files of questions come in. Prompts go out, and a rule that scores an answer.
"""
