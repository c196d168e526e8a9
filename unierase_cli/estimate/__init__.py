"""What a run will take, before anything is loaded.

An experiment and the shape of its model come in. Memory, disk and early refusals go out.
"""
