"""Running a program that a model wrote without trusting it.

Source text, tests and limits come in. Whether the tests passed goes out, and nothing else.
"""
