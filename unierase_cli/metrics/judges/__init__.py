"""Models that judge texts, each in its own process.

Input: texts or pairs of texts. Output: vectors, labels or probabilities, or the reason why a judge is absent.
"""
