"""Weights that are changed for a while."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.helpers.tiny_models import tiny
from unierase_cli.audit.weights import changed, linear_weights


def doubled(name: str, weight: Tensor) -> Tensor:
    assert weight.dtype is torch.float32
    return 2 * weight


@pytest.mark.parametrize("family", ["llama", "llama_tied", "gpt2"])
def test_weights_come_back_bit_by_bit_also_after_an_error(family: str) -> None:
    loaded = tiny(family)
    before = {name: value.clone() for name, value in loaded.model.state_dict().items()}
    with changed(loaded, doubled):
        moved = [n for n, value in loaded.model.state_dict().items() if not torch.equal(before[n], value)]
        assert sorted(moved) == sorted(linear_weights(loaded))
    assert all(torch.equal(before[name], value) for name, value in loaded.model.state_dict().items())

    def failing(name: str, weight: Tensor) -> Tensor:
        if name == list(linear_weights(loaded))[3]:
            raise RuntimeError("inside")
        return doubled(name, weight)

    with pytest.raises(RuntimeError, match="inside"), changed(loaded, failing):
        pass
    assert all(torch.equal(before[name], value) for name, value in loaded.model.state_dict().items())


def test_weights_are_handed_over_as_out_by_in() -> None:
    shapes: dict[str, dict[str, torch.Size]] = {"llama": {}, "gpt2": {}}
    for family, seen in shapes.items():

        def look(name: str, weight: Tensor, seen: dict[str, torch.Size] = seen) -> Tensor:
            seen[name] = weight.shape
            return weight

        with changed(tiny(family), look):
            pass
    assert next(shape for name, shape in shapes["llama"].items() if "down_proj" in name) == (32, 48)
    assert next(shape for name, shape in shapes["gpt2"].items() if "mlp.c_proj" in name) == (32, 48)


def test_a_head_that_is_the_embedding_is_changed_alone() -> None:
    loaded = tiny("llama_tied")
    embedding, head = loaded.architecture.embedding, loaded.architecture.head
    before = embedding.weight.detach().clone()
    with changed(loaded, doubled, head=True):
        assert torch.equal(embedding.weight, before)
        assert torch.equal(head.weight, 2 * before)
    assert head.weight is embedding.weight
    assert torch.equal(head.weight, before)


def test_the_head_is_changed_only_where_that_is_asked_for() -> None:
    loaded = tiny("llama")
    head = loaded.architecture.head.weight.clone()
    with changed(loaded, doubled, head=True):
        assert torch.equal(loaded.architecture.head.weight, 2 * head)
    assert torch.equal(loaded.architecture.head.weight, head)
