"""Artefacts, manifests, hashes and files that are written whole: the only room that knows the layout of outputs.

Payloads and records come in. Checked paths and rows go out.
"""
