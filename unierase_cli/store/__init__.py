"""Artefacts, manifests, hashes and atomic file writes: the only room that knows the layout of outputs.

Payloads and records come in. Checked paths and rows go out.
"""
