"""Loading a model and finding its parts by what they are.

A folder or hub id comes in. A `LoadedModel` goes out, with its architecture, prompts and rows.
"""
