"""Self-contained HTML pages. Comes in: tables, scores, observations and audits of finished artefacts. Goes out: one HTML text with
its style, its script and its pictures (SVG). Every text of a model or of data is escaped. A page loads nothing and runs no other
script.
"""
