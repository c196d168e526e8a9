"""Stands for ``unierase_cli.metrics.judges.worker`` in tests: the worker itself, with judges that do what their names say."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from unierase_cli.metrics.judges import models as judge_models
from unierase_cli.metrics.judges import worker as judge_worker
from unierase_cli.metrics.judges.kinds import JudgeAbsent


def open_judge(kind: str, name: str, folder: Path, alive: Callable[[], None]) -> Any:
    if name == "hangs-at-once":
        time.sleep(600)
    if name == "unreadable":
        raise JudgeAbsent("its files cannot be read")

    def judge(items: Sequence[Any]) -> list[Any]:
        if name == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "exits":
            sys.stderr.write("cannot open the library\n")
            os._exit(3)
        if name == "raises":
            raise ValueError("no such class")
        if name == "no-memory":
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4000000000 bytes.")
        if name == "hangs":
            time.sleep(600)
        if name == "slow":
            for _ in range(4):
                time.sleep(0.4)
                alive()
        print("what a library prints")
        labels = {"nli": "entailment", "gibberish": 0.25}
        return [labels.get(kind, [float(len(item)), 1.0]) for item in items]

    return judge


if __name__ == "__main__":
    judge_models.open_judge = open_judge
    judge_worker.main(*sys.argv[1:])
