"""One file per family of commands.

In: parsed options. Each command calls one room of the package and renders its result.
"""
