"""Tables, pictures and pages of finished artefacts.

Input: scores and observations. Output: tables, png files and Markdown. No model is loaded.
"""
