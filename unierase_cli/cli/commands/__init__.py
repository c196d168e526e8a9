"""One file per family of commands.

Parsed options come in. Each command calls one room of the package and renders its result.
"""
