"""The sections of an experiment as dataclasses, one file each, with the meaning of a key as a comment above it.

Values from yaml come in. Checked values go out.
"""
