"""Two runs compared question by question.

In: two scored runs. Out: paired differences, their tests and the questions that differ.
"""
