"""The sections of an experiment as dataclasses, one file each, with the meaning of each key in a docstring below it.

Values from yaml come in. Checked values go out.
"""
