"""What several benchmarks share: checked rows, retain splits, neighbours, and the parts of the fictional world.

Rows of files come in. Facts and splits go out.
"""
