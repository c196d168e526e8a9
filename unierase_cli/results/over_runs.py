"""Artefacts over several finished ones, such as a table of many runs: reused if there is one over the same, else made."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unierase_cli.contracts import Reporter
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store
from unierase_cli.store.hashing import hash_json
from unierase_cli.store.manifest import environment


def over_runs(
    store: Store,
    stage: str,
    slug: str,
    *,
    version: int,
    identity: Mapping[str, Any],
    inputs: Mapping[str, Artefact],
    write: Callable[[Path], dict[str, Any]],
    reporter: Reporter,
    command: Sequence[str],
    force: bool,
) -> Artefact:
    """The artefact of ``stage`` over ``inputs``. ``identity``: what its key depends on besides stage and version.

    ``write`` fills the folder and returns further entries of the manifest (``summary``, ``warnings``). ``force`` makes a
    new version of an existing artefact.
    """
    key = hash_json({"stage": stage, "version": version, **identity})
    with store.lock(stage, slug, key, reporter.note):
        done = None if force else store.find(stage, key)
        if done is not None:
            done.check()
            reporter.note(f"{stage}: reusing {done.path}")
            return done
        draft = store.draft(stage, slug, key, fresh=force)
        reporter.note(f"{stage}: making {draft.path}")
        started, clock = time.time(), time.monotonic()
        written = write(draft.path)
        return draft.complete(
            {
                "stage": stage,
                "options": {},
                "slug": slug,
                "version": draft.path.name,
                "key": key,
                "stage_version": version,
                "command": list(command),
                "inputs": {name: {"path": str(a.path), "key": a.key} for name, a in inputs.items()},
                "environment": environment(),
                "started": started,
                "finished": time.time(),
                "wall_seconds": round(time.monotonic() - clock, 3),
                "resumed": draft.resuming,
                **written,
            }
        )
