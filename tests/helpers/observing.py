"""The observe stage on a tiny model, and what is asked of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tests.helpers.settings import with_settings
from tests.helpers.tiny_models import FACTS, tiny_llama
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.evaluation import EvalConfig, ProtocolConfig
from unierase_cli.contracts import SilentReporter
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.vocabulary import add_unlearning_tokens
from unierase_cli.pipeline.stage import StageContext
from unierase_cli.pipeline.study import study_of
from unierase_cli.stages import observe as stage
from unierase_cli.stages import score
from unierase_cli.store.artefact import Artefact

PROTOCOL = ProtocolConfig(max_new_tokens=6, prefix_tokens=3)
ROWS = [
    replace(
        fact,
        paraphrased_question=fact.question.lower() if i else None,
        paraphrased_answer=f"Of course, {fact.answer}",
        wrong_answers=tuple(other.answer for other in FACTS if other.id != fact.id)[:2],
    )
    for i, fact in enumerate(FACTS)
]


def edited_model() -> LoadedModel:
    loaded = tiny_llama(seed=4)
    add_unlearning_tokens(loaded, ["<unlearn_0>"], torch.Generator().manual_seed(1))
    return loaded


def experiment(**evaluation: Any) -> Experiment:
    return with_settings(Experiment(protocol=PROTOCOL, eval=EvalConfig(batch_size=2, **evaluation)), model__path="somewhere")


def run(directory: Path, state: str, config: Experiment | None = None) -> dict[str, Any]:
    directory.mkdir(exist_ok=True)
    return stage.run(StageContext(study_of(config or experiment()), directory, {}, SilentReporter(), {"state": state}))


def scored(directory: Path, reporter: SilentReporter, config: Experiment | None = None) -> dict[str, Any]:
    inputs = {s: Artefact(directory / s, {"key": s, "stage": "observe"}) for s in ("base", "edited")}
    (directory / "score").mkdir(exist_ok=True)
    return score.run(StageContext(study_of(config or experiment()), directory / "score", inputs, reporter))
