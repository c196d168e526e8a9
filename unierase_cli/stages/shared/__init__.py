"""What several stages use.

An experiment, a context or observations come in. Parts of a stage go out; nothing here makes an artefact.
"""
