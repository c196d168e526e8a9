"""One closed-form edit of a tiny model: its context, its step and the token's probability."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.helpers.tiny_models import FACTS
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.edit import EditConfig, ValueConfig
from unierase_cli.contracts import Fact, SilentReporter, Step
from unierase_cli.editing.moments import Source, decompose, second_moments
from unierase_cli.editing.nullspace import Preservation, choose_preservation
from unierase_cli.editing.weights import AppliedPatch
from unierase_cli.methods.base import EraseContext
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.token_rows import TokenRows

LAYERS = [1, 2]
ROW = 0.3 * torch.randn(1, 32, generator=torch.Generator().manual_seed(3))
VALUES = ValueConfig(steps=5, lr=0.2, lr_kind="absolute", clamp=1.0, runner_up=0.1)
CONFIG = EditConfig(values=VALUES, preserve="ridge", alpha=1.0, lambda_=0.1)
KEPT, FORGET = FACTS[4:], FACTS[:4]


def context(loaded: LoadedModel, config: EditConfig = CONFIG, **changes: Any) -> EraseContext:
    """What a method gets, with the questions of FACTS[4:] protected."""
    ends = [loaded.prompts.prompt(fact.question).ids for fact in KEPT]
    sums = second_moments(loaded, LAYERS, [Source("kept", 1.0, ends)], batch_tokens=500, reporter=SilentReporter())
    moments = {layer: decompose(total) for layer, total in sums.items()}

    def preservation(layer: int, chosen: EditConfig) -> Preservation:
        vectors = moments[layer].eigenvectors
        return choose_preservation(moments[layer].eigenvalues, lambda a, b: vectors[a:b], chosen, layer=layer)

    fixed = TokenRows(["<unlearn_0>"], [len(loaded.tokenizer)], ROW, None if loaded.architecture.tied else -ROW)
    rows = changes.get("tokens") or fixed
    settings = {"refusals": ["Ada writes.", "Bruno was born."], "tokens": rows, **changes}
    weights = AppliedPatch(loaded)
    weights.set_tokens(rows)
    return EraseContext(
        Experiment(edit=config), weights, LAYERS, "subject_last", preservation, SilentReporter(), **settings
    )


def step(facts: list[Fact] = FORGET, index: int = 0, before: tuple[Fact, ...] = ()) -> Step:
    return Step(index, tuple(facts), tuple(KEPT), before)


def first_token(loaded: LoadedModel, working: EraseContext) -> Tensor:
    assert working.tokens is not None
    rows = []
    for fact in FORGET:
        with torch.no_grad():
            logits = loaded.model(input_ids=torch.tensor([loaded.prompts.prompt(fact.question).ids])).logits[0, -1]
        rows.append(logits.softmax(-1)[working.tokens.ids[0]])
    return torch.stack(rows)
