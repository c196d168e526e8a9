"""Makes a finished run again and compares the results.

In: a manifest. Out: a verdict, artefact by artefact and metric by metric.
"""
