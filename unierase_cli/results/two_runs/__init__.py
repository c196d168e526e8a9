"""Two runs compared question by question.

Two scored runs come in. Paired differences, their tests and the questions that differ go out.
"""
