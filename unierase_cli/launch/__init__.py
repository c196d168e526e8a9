"""Starting jobs on this machine or on a cluster.

Command lines come in. Their states and exit codes go out.
"""
