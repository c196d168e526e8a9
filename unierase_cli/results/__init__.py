"""Tables, pictures and pages of finished artefacts.

Scores and observations come in. Tables, png files and Markdown go out; no model is loaded.
"""
