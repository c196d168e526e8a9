"""Running parts of a model gives what the whole model gives, whatever the family."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers.tiny_models import FACTS, FAMILIES, FURTHER, tiny
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.partial import length_sorted_batches, pad_sequences, returns_tuple, run_lower
from unierase_cli.models.suffixes import prepare_suffixes

LAYER = 1


def sequences(loaded: LoadedModel) -> list[list[int]]:
    """Prompts of different lengths, one of them a single token."""
    return [*(loaded.prompts.prompt(f.question).ids for f in FACTS[:4]), loaded.prompts.prompt("Who?").ids[:1]]


def whole(loaded: LoadedModel, ids: list[int], key: int, delta: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Of one sequence through the whole model: projection input, block output, final hidden state; delta added at the key."""
    seen: dict[str, Tensor] = {}

    def change(_module: object, _arguments: object, output: Any) -> Any:
        # Blocks of some families return a tuple; Falcon goes on in place.
        hidden, *rest = output if isinstance(output, tuple) else (output,)
        seen["output"] = hidden[0].clone()
        if delta is not None:
            hidden = hidden.index_put((torch.tensor(0), torch.tensor(key)), hidden[0, key] + delta)
        return (hidden, *rest) if isinstance(output, tuple) else hidden

    def keep(_module: object, arguments: tuple[Tensor, ...]) -> None:
        seen["input"] = arguments[0].reshape(len(ids), -1)

    handles = [
        loaded.architecture.projection(LAYER).register_forward_pre_hook(keep),
        loaded.architecture.blocks[LAYER].register_forward_hook(change),
    ]
    with torch.no_grad():
        last = loaded.architecture.backbone(input_ids=torch.tensor([ids]), use_cache=False).last_hidden_state[0]
    for handle in handles:
        handle.remove()
    return seen["input"], seen["output"], last


@pytest.mark.parametrize("family", [*FAMILIES, *FURTHER])
def test_lower_blocks_in_a_padded_batch_equal_single_sequences(family: str) -> None:
    loaded = tiny(family)
    batch = pad_sequences(sequences(loaded), loaded.prompts.pad_id, loaded.device)
    inputs: dict[int, Tensor] = {}
    outputs: dict[int, Tensor] = {}
    above: list[int] = []
    handle = loaded.architecture.projection(LAYER + 1).register_forward_pre_hook(lambda _m, _a: above.append(1))
    returns_tuple(loaded.architecture)
    above.clear()
    run_lower(
        loaded.architecture,
        batch,
        inputs_of=[LAYER],
        outputs_of=[LAYER],
        on_input=inputs.__setitem__,
        on_output=outputs.__setitem__,
    )
    handle.remove()
    assert not above, "blocks above the last one needed were run"
    for row, ids in enumerate(sequences(loaded)):
        wanted_input, wanted_output, _ = whole(loaded, ids, 0)
        assert torch.allclose(inputs[LAYER][row, : len(ids)], wanted_input, atol=1e-5)
        assert torch.allclose(outputs[LAYER][row, : len(ids)], wanted_output, atol=1e-5)


@pytest.mark.parametrize("family", [*FAMILIES, *FURTHER])
@pytest.mark.parametrize("layer", [LAYER, 3], ids=["inner block", "last block"])
def test_upper_blocks_from_the_key_on_equal_the_whole_model(
    family: str, layer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.models.test_partial.LAYER", layer)
    loaded = tiny(family)
    prompts = sequences(loaded)
    keys = [3, len(prompts[1]) - 1, 0, 5, 0]
    deltas = torch.randn(len(prompts), loaded.architecture.hidden_size, generator=torch.Generator().manual_seed(1))
    suffixes = prepare_suffixes(loaded.architecture, prompts, keys, layer, loaded.prompts.pad_id)
    for chosen in (torch.arange(len(prompts)), torch.tensor([1, 3])):
        with torch.no_grad():
            last = suffixes.select(chosen).forward(deltas[chosen])
        for row, index in enumerate(chosen.tolist()):
            _, _, wanted = whole(loaded, prompts[index], keys[index], deltas[index])
            tail = wanted[keys[index] :]
            assert torch.allclose(last[row, : len(tail)], tail, atol=2e-5), (family, index)


def test_the_gradient_reaches_the_change_and_the_model_is_left_as_it_was() -> None:
    loaded = tiny("llama")
    before = loaded.model(input_ids=torch.tensor([[1, 5, 6]])).logits
    suffixes = prepare_suffixes(loaded.architecture, sequences(loaded)[:2], [2, 3], LAYER, loaded.prompts.pad_id)
    delta = torch.zeros(2, loaded.architecture.hidden_size, requires_grad=True)
    suffixes.forward(delta).square().sum().backward()
    assert delta.grad is not None
    assert (delta.grad.abs().sum(1) > 0).all()
    assert all(p.grad is None for p in loaded.model.parameters())
    assert torch.equal(before, loaded.model(input_ids=torch.tensor([[1, 5, 6]])).logits)


def test_an_error_inside_a_partial_run_gives_the_blocks_back() -> None:
    loaded = tiny("llama")
    batch = pad_sequences([[1, 2, 3]], 0, loaded.device)

    def stop(_layer: int, _seen: Tensor) -> None:
        raise KeyboardInterrupt

    before = loaded.model(input_ids=batch.ids).logits
    with pytest.raises(KeyboardInterrupt):
        run_lower(loaded.architecture, batch, inputs_of=[0], on_input=stop)
    assert torch.equal(before, loaded.model(input_ids=batch.ids).logits)


def test_batches_hold_similar_lengths_within_the_budget() -> None:
    lengths = [3, 9, 4, 8, 20]
    batches = length_sorted_batches(lengths, 18)
    assert batches == [[4], [1, 3], [2, 0]]
    assert sorted(i for b in batches for i in b) == list(range(5))
