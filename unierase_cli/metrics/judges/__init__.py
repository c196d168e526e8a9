"""Models that judge texts, each in its own process.

A judge takes texts or pairs of texts and returns vectors, labels or probabilities, or the reason why it is absent.
"""
