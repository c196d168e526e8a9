"""Files of other code bases: logs and results that they wrote or that they read.

Input: their JSON. Output: observations and measures; the writers go the other way.
"""
