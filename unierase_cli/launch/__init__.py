"""Starts jobs on this machine or on a cluster.

Input: command lines. Output: their states and exit codes.
"""
