"""The sections of an experiment as dataclasses, one file each, with a docstring below each key.

Input: values from yaml. Output: checked values.
"""
