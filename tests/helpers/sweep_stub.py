"""Stands for ``python -m unierase_cli`` in tests of the sweep: real keys, locks and manifests, stages that only write a line.

What is made is counted in ``made.txt`` of the outputs folder. ``method=ga_gd`` makes a mistake, ``method=rmu`` is killed; the audit
of ``method=dpo_gd`` makes a mistake.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from unierase_cli.audit.findings import Audit
from unierase_cli.config.compose import compose
from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.pipeline import pipeline as pipeline_module
from unierase_cli.pipeline.pipeline import Pipeline
from unierase_cli.pipeline.stage import Request, StageContext
from unierase_cli.store.artefact import read_artefact
from unierase_cli.store.json_text import write_json

BASE, EDITED = (Request("observe", (("state", state),)) for state in ("base", "edited"))
NEEDS = {"score": {"base": BASE, "edited": EDITED}, "report": {"score": Request("score")}, "erase": {}}
NEEDS["audit"] = {"erase": Request("erase")}
# Files in the outputs folder: the broken methods work; what is shared takes its time; it kills the process that started it, once.
MENDED, SLOW, ORPHANED = "mended", "slow", "orphaned"
# Long enough for a second process to ask for the same artefact.
SHARED_SECONDS = 3.0


def stage(name: str) -> Any:
    """Only the erase stage reads anything, and the unedited model's observations are the same for every run."""

    def needs(study: Any, options: dict[str, str]) -> dict[str, Request]:
        return {"erase": Request("erase")} if options.get("state") == "edited" else NEEDS.get(name, {})

    def run(context: StageContext) -> dict[str, Any]:
        outputs = Path(context.experiment.run.outputs)
        with (outputs / "made.txt").open("a") as stream:
            stream.write(f"{name} {context.options.get('state', '')}\n")
        method = context.experiment.method.name
        if name == "erase" and method == "ga_gd" and not (outputs / MENDED).exists():
            raise UserError("this method cannot work", "another one")
        if name == "erase" and method == "rmu" and not (outputs / MENDED).exists():
            os.kill(os.getpid(), signal.SIGKILL)
        if context.options.get("state") == "base" and (outputs / SLOW).exists():
            time.sleep(SHARED_SECONDS)
        if context.options.get("state") == "base" and (outputs / ORPHANED).exists():
            (outputs / ORPHANED).unlink()
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60)
        if name == "audit":
            if method == "dpo_gd" and not (outputs / MENDED).exists():
                raise UserError("this model cannot be attacked", "another one")
            write_json(context.directory / "audit.json", Audit(f"{method} on nothing", "hidden", "hidden: so it is", []).to_json())
            (context.directory / "audit.md").write_text("hidden")
        if name == "score":
            (context.directory / "metrics.json").write_text(json.dumps(metrics(context.experiment.run.seed)))
        return {}

    def reads(study: Any, options: dict[str, str]) -> dict[str, Any]:
        experiment = study.experiment
        read = {"method": experiment.method.name, "seed": experiment.run.seed, "split": experiment.benchmark.split}
        return read if name == "erase" else {}

    return SimpleNamespace(NAME=name, VERSION=1, reads=reads, needs=needs, fingerprints=lambda e, o: {}, run=run)


def metrics(seed: int) -> dict[str, Any]:
    values = {"base": {"forget.rouge": 1.0, "retain_unseen.rouge": 1.0}}
    values["edited"] = {"forget.rouge": 0.1 + 0.1 * seed, "retain_unseen.rouge": 0.9}
    columns = [{"id": name, "title": name, "version": 1} for name in values["base"]]
    states = {s: {n: {"value": v, "unavailable": None} for n, v in some.items()} for s, some in values.items()}
    return {"columns": columns, "states": states, "facts": {"forget.plain": ["f0", "f1"]}, "examples": []}


def main() -> int:
    pipeline_module.load_stage = stage  # type: ignore[assignment]
    command, *words = [word for word in sys.argv[1:] if word != "--json"]
    wanted = {"eval": "score", "run": "report", "erase": "erase", "audit": "audit"}[command]
    reporter = SilentReporter()
    try:
        experiment = Experiment.from_json(read_artefact(Path(words[0])).config) if command == "audit" else compose(words)
        artefact = Pipeline(experiment, reporter, ["unierase", *sys.argv[1:]], words).make(wanted)
    except UserError as error:
        print(f"error: {error.message}\n  try: {error.hint}", file=sys.stderr)
        return 2
    print("\n".join(reporter.notes), file=sys.stderr)
    json.dump({"stage": wanted, "path": str(artefact.path)}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
