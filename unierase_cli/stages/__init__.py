"""One file per stage of a run.

Input: a `StageContext` with the inputs. Output: the files of one artefact and its summary.
"""
