"""Two runs compared question by question.

Input: two scored runs. Output: paired differences, their tests and the questions that differ.
"""
