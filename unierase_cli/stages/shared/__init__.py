"""Helpers that several stages use.

In: an experiment, a context or observations. Out: parts of a stage; nothing here makes an artefact.
"""
