"""Tables, pictures and pages of finished artefacts.

In: scores and observations. Out: tables, png files and Markdown. No model is loaded.
"""
