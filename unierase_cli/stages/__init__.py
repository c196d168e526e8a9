"""One file per stage of a run.

A `StageContext` with the inputs comes in. The payload of one artefact and its summary go out.
"""
