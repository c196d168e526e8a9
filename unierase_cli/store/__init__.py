"""Artefacts, manifests, hashes and atomic file writes: the only room that knows the layout of outputs.

Writers take payloads and records; readers return checked paths and rows.
"""
