"""unierase: an experiment runner for making language models forget."""

__version__ = "0.1.0"
