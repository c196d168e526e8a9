"""One file per family of commands.

Input: parsed options. Each command calls one room of the package and renders its result.
"""
