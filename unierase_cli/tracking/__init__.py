"""Sends the numbers of a running command to an experiment tracker, one short file per library.

Comes in: losses, looks, final metrics, the configuration and the report. Goes out: a run in the library's own form, kept on this
machine unless the library's environment variables say otherwise.
"""
