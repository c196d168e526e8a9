"""Runs EleutherAI's lm-eval on the model in memory, with its own tasks, prompts and metrics.

The model is passed as it is, edit included; lm-eval's command line gives the same numbers for an exported folder.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from unierase_cli.contracts import UserError
from unierase_cli.models.load import LoadedModel
from unierase_cli.store.hashing import hash_file, hash_json

PACKAGE = "lm_eval"
INSTALL = "pip install 'unierase[lm_eval]'"


def installed_version() -> str | None:
    """Version of the installed lm-eval, or None."""
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return None


def folder_fingerprint(folder: str | None) -> str:
    """Hash of the files of a task folder. Raises UserError if it is not a folder."""
    if folder is None:
        return ""
    if not Path(folder).is_dir():
        raise UserError(
            f"eval.general.lm_eval_folder={folder} is not a folder", "name the folder with the tasks' yaml files"
        )
    return hash_json(
        {p.relative_to(folder).as_posix(): hash_file(p) for p in sorted(Path(folder).rglob("*")) if p.is_file()}
    )


def run_task(
    loaded: LoadedModel, task: str, *, folder: str | None, shots: int | None, rows: int | None, batch_size: int
) -> list[dict[str, Any]]:
    """One row per document and metric (``task``, ``metric``, ``id``, ``value``); ``total`` for a metric without
    per-document values.

    A single row with ``unavailable`` if the package is missing. Raises UserError for an unknown task and for a task
    that fails.
    """
    try:
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        return [{"task": task, "unavailable": f"the package lm-eval can't be imported ({error}); {INSTALL}"}]
    manager = TaskManager(include_path=folder)
    if task not in manager.all_tasks:
        raise UserError(f"eval.general.lm_eval={task} is not a task of lm-eval", "`lm_eval ls tasks` lists them")
    model: Any = HFLM(
        pretrained=loaded.model,
        # A copy, since lm-eval sets a missing pad token.
        tokenizer=copy.deepcopy(loaded.tokenizer),
        backend="causal",
        batch_size=batch_size or 8,
        max_length=loaded.prompts.max_length,
        # Every sequence starts with one BOS, as everywhere else here.
        add_bos_token=bool(loaded.prompts.bos_ids),
    )
    try:
        found = simple_evaluate(
            model=model,
            tasks=[task],
            num_fewshot=shots,
            limit=rows,
            task_manager=manager,
            log_samples=True,
            bootstrap_iters=0,
        )
    except Exception as error:  # tasks read data from anywhere and raise anything
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(
            f"lm-eval task {task} fails: {type(error).__name__}: {first[:200]}", "check the network and HF_HUB_OFFLINE"
        ) from error
    return rows_of(task, found or {})


def rows_of(task: str, found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of a task from lm-eval's result."""
    totals = dict(found.get("results", {}).get(task, {}))
    samples = found.get("samples", {}).get(task, [])
    rows: list[dict[str, Any]] = []
    for key, value in totals.items():
        metric, _, chosen = key.partition(",")
        if not isinstance(value, int | float) or isinstance(value, bool) or "_stderr" in metric or not chosen:
            continue
        name = metric if chosen == "none" else f"{metric} ({chosen})"
        single = [s for s in samples if s.get("filter", "none") == chosen and isinstance(s.get(metric), int | float)]
        values = [float(s[metric]) for s in single]
        # Per-document values are used if their mean is the total; for other metrics (F1, perplexity) only the total is
        # kept.
        if values and math.isclose(math.fsum(values) / len(values), value, rel_tol=1e-6, abs_tol=1e-9):
            rows += [
                {"task": task, "metric": name, "id": str(s["doc_id"]), "value": v}
                for s, v in zip(single, values, strict=True)
            ]
        else:
            rows.append({"task": task, "metric": name, "total": float(value), "n": len(samples)})
    if not rows:
        raise UserError(f"lm-eval task {task} returned no number", "choose another task")
    directions = found.get("higher_is_better", {}).get(task, {})
    return [{**row, "higher_is_better": directions.get(row["metric"].split(" (")[0])} for row in rows]
