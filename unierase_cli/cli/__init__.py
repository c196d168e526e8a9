"""The command line: parses arguments, composes the experiment, calls one stage and renders the result.

In: arguments and a terminal. Out: tables on stdout, messages on stderr and an exit code.
"""
