"""Runs a command that ends with the process that started it: ``python -m unierase_cli.launch.tied PARENT COMMAND...``.

A worker of Ray that is killed cannot stop its run any more, and the same run is started again elsewhere. Only Linux tells a
process of its parent's death; on other systems the first run goes on, and the second waits for it at the artefact's lock.
"""

from __future__ import annotations

import os
import signal
import sys

# From <linux/prctl.h>; it outlives the exec.
PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, *command = sys.argv[1:]
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(parent):  # it died before it could be told
            os.kill(os.getpid(), signal.SIGTERM)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
