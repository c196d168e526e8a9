"""Helpers that several stages use.

Input: an experiment, a context or observations. Output: parts of a stage; nothing here makes an artefact.
"""
