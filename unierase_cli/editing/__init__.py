"""The mathematics of a closed-form edit: keys, values, preserved moments, the solve, and patches.

Tensors and facts come in. Low-rank changes of weights go out.
"""
