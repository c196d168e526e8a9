"""Makes a model reveal what it knows about names or topics, without any forget data.

A loaded model, targets and optional retain text come in. Questions with the model's own answers go out, with the evidence
for each target. No file is opened here except those two.
"""
