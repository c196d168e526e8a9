"""Artefacts, manifests, hashes and atomic file writes: the only room that knows the layout of outputs.

Input: payloads and records. Output: checked paths and rows.
"""
