"""Passes over prompts while their blocks are edited: what is kept between two passes changes no number."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.tiny_models import FACTS, FAMILIES, FURTHER, tiny, tiny_llama
from unierase_cli.editing.keys import Budget, Passes, look_at_keys
from unierase_cli.editing.spans import Located
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.narrow import mlp_at
from unierase_cli.models.partial import pad_sequences, run_lower


def prompts(loaded: LoadedModel) -> list[Located]:
    """Prompts of different lengths, one of a single token."""
    found = [Located(ids := loaded.prompts.prompt(f.question).ids, len(ids) - 1 - n) for n, f in enumerate(FACTS[:4])]
    return [*found, Located(found[0].ids, 0)]


@pytest.mark.parametrize("room", [0, 3000, 1 << 30])
@pytest.mark.parametrize("family", [*FAMILIES, *FURTHER, "bloom"])
def test_a_pass_that_goes_on_from_kept_states_sees_what_a_whole_pass_sees(family: str, room: int) -> None:
    loaded = tiny(family)
    passes = Passes(loaded.architecture, prompts(loaded), pad_id=0, batch_tokens=60, budget=Budget(room))
    for layer in (1, 2):
        found = passes.look(keys_of=[layer], outputs_of=[2], settled=layer)
        whole = look_at_keys(loaded.architecture, prompts(loaded), keys_of=[layer], outputs_of=[2], pad_id=0, batch_tokens=60)
        assert torch.allclose(found.keys[layer], whole.keys[layer], atol=1e-5)
        assert torch.allclose(found.outputs[2], whole.outputs[2], atol=1e-5)
        loaded.architecture.set_weight(layer, 1.2 * loaded.architecture.weight(layer))
    after = passes.look(outputs_of=[2], settled=2).outputs[2]
    whole = look_at_keys(loaded.architecture, prompts(loaded), outputs_of=[2], pad_id=0, batch_tokens=60)
    assert torch.allclose(after, whole.outputs[2], atol=1e-5)


def test_states_are_kept_up_to_a_size_and_blocks_below_them_are_not_run_again() -> None:
    loaded = tiny_llama()
    per_row = 4 * loaded.architecture.hidden_size
    most = max(p.key + 1 for p in prompts(loaded)) * per_row
    passes = Passes(loaded.architecture, prompts(loaded), pad_id=0, batch_tokens=1, budget=(budget := Budget(most)))
    passes.look(keys_of=[1], settled=1)
    assert budget.left < most
    kept = sum(part.start is not None for part in passes._parts)
    assert 0 < kept < len(passes._parts)
    lower: list[int] = []
    hook = loaded.architecture.projection(0).register_forward_pre_hook(lambda *_: lower.append(1))
    passes.look(keys_of=[2], settled=2)
    assert len(lower) == len(passes._parts) - kept
    hook.remove()


@pytest.mark.parametrize("family", [*FAMILIES, *FURTHER, "bloom"])
def test_an_mlp_that_runs_at_one_token_gives_that_tokens_output(family: str) -> None:
    loaded = tiny(family)
    batch = pad_sequences([p.ids for p in prompts(loaded)], 0, loaded.device)
    places = torch.tensor([p.key for p in prompts(loaded)])
    outputs = []
    for read_at in (None, places):
        run_lower(
            loaded.architecture, batch, outputs_of=[1], on_output=lambda _n, x: outputs.append(x.clone()), read_at=read_at
        )
    rows = torch.arange(len(places))
    assert torch.allclose(outputs[0][rows, places], outputs[1][rows, places], atol=1e-5)
    with mlp_at(loaded.architecture, 1, places):
        pass
    run_lower(loaded.architecture, batch, outputs_of=[1], on_output=lambda _n, x: outputs.append(x.clone()))
    assert torch.equal(outputs[0], outputs[2]), "the MLP runs everywhere again"
