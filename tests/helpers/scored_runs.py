"""Scored runs as the store keeps them, with the chain behind each, made without a model."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from tests.helpers.recorded import given
from tests.helpers.settings import with_settings
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.model import MethodConfig
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store
from unierase_cli.store.hashing import hash_json

UNEDITED = {"forget.rouge": 1.0, "retain_unseen.rouge": 1.0, "forget.refusal_rate": 0.0}


def artefact(store: Store, stage: str, slug: str, inputs: dict[str, Artefact], **manifest: Any) -> Artefact:
    key = hash_json([stage, slug, len(store.list())])
    draft = store.draft(stage, slug, key, fresh=True)
    sources = {name: {"path": str(a.path), "key": a.key} for name, a in inputs.items()}
    return draft.complete({"stage": stage, "key": key, "inputs": sources, "finished": float(len(store.list())), **manifest})


def scored(
    store: Store,
    method: str = "npo_gd",
    seed: int = 0,
    *,
    forget: float | None = 0.5,
    kept: float = 0.9,
    base: dict[str, float] | None = None,
    more: dict[str, float | None] | None = None,
    seconds: float = 60.0,
    resumed: bool = False,
    phases: dict[str, Any] | None = None,
    **settings: Any,
) -> Artefact:
    """A score artefact with the chain behind it: finetune, observed base, token, erase, observed edit."""
    config = Experiment(method=MethodConfig(name=method, editing=method == "unierase", token=method == "unierase"))
    config = with_settings(config, **{"run__seed": seed, "model__name": "mini", **settings})
    recorded = json.loads(json.dumps(asdict(config)))
    slug = f"{config.benchmark.name}-{config.benchmark.split}_{config.model.name}_{method}_{config.mode.name}_seed{seed}"
    model = f"mini_{config.train.split}_seed{seed}"
    trained = store.list("finetune")
    found = next((a for a in trained if a.path.parent.name == model), None) or artefact(store, "finetune", model, {})
    observed = artefact(store, "observe", f"{slug}_base", {"finetune": found})
    before = {"train_token": 7.0, "moments": 3.0} if method == "unierase" else {}
    inputs = {name: artefact(store, name, slug, {}, wall_seconds=taken) for name, taken in before.items()}
    erase = artefact(
        store, "erase", slug, inputs, wall_seconds=seconds, resumed=resumed, summary={"changed_share": 0.25},
        phases=phases or {"edit": {"peak_memory_mib": 512.0}, "load model": {"peak_memory_mib": 256.0}},
    )  # fmt: skip
    edited = artefact(store, "observe", slug, {"finetune": found, "erase": erase})
    values = {"forget.rouge": forget, "retain_unseen.rouge": kept, "forget.refusal_rate": 0.5, **(more or {})}
    reason = "nobody asked; run `unierase eval`"
    states = {"base": {**UNEDITED, **(base or {})}, "edited": values}
    metrics = {
        "columns": [{"id": name, "title": name, "version": 1} for name in values],
        "states": {
            state: {n: {"value": v, "unavailable": reason if v is None else None} for n, v in of_state.items()}
            for state, of_state in states.items()
        },
        "facts": {"forget.plain": ["f0", "f1"]},
    }
    made = artefact(store, "score", slug, {"base": observed, "edited": edited}, config=recorded)
    return given(made, ("metrics.json", json.dumps(metrics)))
