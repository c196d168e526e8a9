"""Turns yaml files and `KEY=VALUE` words into one frozen experiment.

Input: a folder of yamls and the words. Output: an `Experiment`, without OmegaConf objects.
"""
