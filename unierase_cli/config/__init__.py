"""Turns yaml files and `KEY=VALUE` words into one frozen experiment.

In: a folder of yamls and the words. Out: an `Experiment`, without OmegaConf objects.
"""
