"""The sections of an experiment as dataclasses, one file each, with a docstring below each key.

In: values from yaml. Out: checked values.
"""
