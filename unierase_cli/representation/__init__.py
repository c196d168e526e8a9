"""What a model still knows inside, read from its hidden states and gradients instead of its answers.

Models and rows that mark an entity in an answer come in. Scores per row and per block go out: how deep a fact was erased, between
the model that knows it (0) and the model that never saw it (1). Nothing here generates text or changes a weight.
"""
