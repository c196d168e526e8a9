"""Starts jobs on this machine or on a cluster.

In: command lines. Out: their states and exit codes.
"""
