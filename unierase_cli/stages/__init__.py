"""One file per stage of a run.

In: a `StageContext` with the inputs. Out: the files of one artefact and its summary.
"""
