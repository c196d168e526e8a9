"""Causal tracing (Meng et al. 2022, arXiv 2202.05262, section 2): which block and which token carry a fact.

Facts and noise come in. How much of an answer's probability each restored state brings back goes out.
"""
