"""A finished edit as the store keeps it: a tiny model's folder and the patches of some steps, made without a method."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from tests.helpers.patches import low_rank, rows_for
from tests.helpers.tiny_models import save_folder, tiny
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.config.sections.evaluation import ProtocolConfig
from unierase_cli.config.sections.model import MethodConfig, ModelConfig, RunConfig
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.weights import AppliedPatch
from unierase_cli.models.load import LoadedModel, load_model
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store


def model_folder(family: str, folder: Path, stored: torch.dtype = torch.float32, seed: int = 0) -> Path:
    """A tiny model's folder, in the type that the checkpoint is kept in."""
    loaded = tiny(family, seed)
    loaded.model.to(stored)
    return save_folder(loaded, folder)


def experiment(model: Path, outputs: Path, dtype: str = "float32", **changes: Any) -> Experiment:
    settings: dict[str, Any] = {
        "model": ModelConfig(path=str(model), dtype=dtype),
        "benchmark": BenchmarkConfig(name="fictional", split="forget05", authors=40, questions=10),
        "protocol": ProtocolConfig(max_new_tokens=6),
        "run": RunConfig(outputs=str(outputs), device="cpu"),
    }
    return Experiment(**{**settings, **changes})


def unedited(config: Experiment) -> LoadedModel:
    return load_model(config.model, config.run)


def edits(loaded: LoadedModel, steps: int = 1, token: bool = True, scale: float = 0.05) -> list[Patch]:
    """Closed-form edits of layers 1 and 2, of rank 3 each; with ``token``, all of them lead to one unlearning token."""
    tokens = rows_for(loaded, ["<unlearn_0>"]) if token else None
    hashes = AppliedPatch(loaded).hashes([1, 2])
    return [
        Patch(
            tokens,
            {n: low_rank(loaded, n, 10 * step + n, scale) for n in (1, 2)},
            hashes,
            {"step": step, "facts": [f"fact-{step}-{number}" for number in range(2)]},
        )
        for step in range(steps)
    ]


def finished(config: Experiment, patches: list[Patch], slug: str = "run") -> Artefact:
    """The erase artefact of these patches in the experiment's store."""
    store = Store(config.run.outputs)
    key = f"{len(store.list()):x}{slug[0]}".encode().hex().ljust(64, "0")
    draft = store.draft("erase", slug, key, fresh=True)
    for index, patch in enumerate(patches):
        patch.save(draft.path, index)
    return draft.complete(
        {
            "stage": "erase",
            "key": key,
            "finished": float(len(store.list())),
            "config": asdict(config),
            "inputs": {},
            "overrides": ["method=unierase", "edit.lambda_=0.2", "benchmark.split=forget05"],
            "summary": {"steps": len(patches)},
        }
    )


def gradient_method() -> MethodConfig:
    return MethodConfig(name="npo_gd", editing=False, token=False)
