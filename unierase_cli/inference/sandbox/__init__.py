"""Running an untrusted program that a model wrote.

Source text, tests and limits come in. Whether the tests passed goes out, and nothing else.
"""
