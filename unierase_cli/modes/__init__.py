"""How a forget set becomes steps: batch, sequential, precise.

A benchmark comes in. A list of steps goes out; no model is touched.
"""
