"""The command line: parses arguments, composes the experiment, calls one stage and renders the result.

Input: arguments and a terminal. Output: tables on stdout, messages on stderr and an exit code.
"""
