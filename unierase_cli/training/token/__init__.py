"""Learning the rows of unlearning tokens.

Questions, refusals and a frozen model come in. Rows for the embedding and the head go out.
"""
