"""From yaml files and `KEY=VALUE` words to one frozen experiment.

A folder of yamls and the words come in. An `Experiment` goes out; no OmegaConf object leaves.
"""
