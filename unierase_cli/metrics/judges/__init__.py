"""Models that judge texts, each in its own process.

Texts or pairs of texts come in. Vectors, labels or probabilities go out, or the reason why a judge is absent.
"""
