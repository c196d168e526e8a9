"""A model with an unlearning token that comes first at once."""

from __future__ import annotations

import torch

from tests.helpers.tiny_models import FACTS
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.vocabulary import add_unlearning_tokens, get_rows, set_rows


def prompts(loaded: LoadedModel) -> list[list[int]]:
    questions = [fact.question for fact in FACTS] + [
        "Who?",
        "Tell me everything that you know about Ada Velour, please.",
    ]
    return [loaded.prompts.prompt(question).ids for question in questions]


def with_eager_token(loaded: LoadedModel) -> LoadedModel:
    """Adds a token whose output row is so close to the last hidden states that it is always the most probable one."""
    ids = add_unlearning_tokens(loaded, ["<unlearn_0>"], torch.Generator().manual_seed(0))
    hidden = [
        loaded.architecture.backbone(input_ids=torch.tensor([p])).last_hidden_state[0, -1] for p in prompts(loaded)
    ]
    rows_in, _ = get_rows(loaded, ids)
    set_rows(loaded, ids, rows_in, 50 * torch.stack(hidden).mean(0, keepdim=True))
    return loaded
