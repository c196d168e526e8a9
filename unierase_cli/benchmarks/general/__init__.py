"""Suites of general ability, one a file."""
