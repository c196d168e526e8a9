"""The command line: it parses words, composes the experiment, calls one stage and renders what comes back.

Words and a terminal come in. Tables on stdout, messages on stderr and an exit code go out.
"""
