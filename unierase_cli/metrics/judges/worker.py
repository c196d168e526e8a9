"""The worker process of ``process``: ``python -m unierase_cli.metrics.judges.worker KIND NAME FOLDER THREADS``.

Writes JSON lines to standard output until its standard input closes, which happens when the parent exits.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from pathlib import Path
from typing import Any

from unierase_cli.metrics.judges.kinds import JudgeAbsent, why


def main(kind: str, name: str, folder: str, threads: str) -> None:
    say = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # Keep libraries from printing to the channel of the answers.
    os.dup2(2, 1)
    asked: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(asked,), daemon=True).start()

    def tell(**told: Any) -> None:
        say.write(json.dumps(told) + "\n")
        say.flush()

    try:
        judge = _load(kind, name, Path(folder), int(threads), lambda: tell(alive=True))
        tell(ready=True)
        while True:
            # JSON turns pairs into lists.
            items = [tuple(item) if isinstance(item, list) else item for item in json.loads(asked.get())]
            tell(said=[_plain(said) for said in judge(items)])
    except JudgeAbsent as absent:
        tell(absent=str(absent))
    except Exception as error:
        tell(absent=why(kind, name, error))


def _load(kind: str, name: str, folder: Path, threads: int, alive: Any) -> Any:
    from unierase_cli.metrics.judges.models import open_judge

    if threads:
        import torch

        torch.set_num_threads(threads)
    return open_judge(kind, name, folder, alive)


def _listen(asked: queue.Queue[str]) -> None:
    for line in sys.stdin:
        asked.put(line)
    os._exit(0)


def _plain(said: Any) -> Any:
    """A label, a number, or a vector as a list."""
    return said.tolist() if hasattr(said, "tolist") else said


if __name__ == "__main__":
    main(*sys.argv[1:])
