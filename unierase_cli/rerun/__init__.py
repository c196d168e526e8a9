"""Makes a finished run again and compares the results.

Input: a manifest. Output: a verdict, artefact by artefact and metric by metric.
"""
