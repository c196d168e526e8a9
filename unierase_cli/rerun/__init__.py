"""A finished run made again and compared with what it was.

A manifest comes in. A verdict, artefact by artefact and metric by metric, goes out.
"""
