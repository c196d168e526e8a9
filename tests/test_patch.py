"""Patches: saved, applied, taken back, and refused where they don't belong."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.helpers import tiny, tiny_llama
from unierase_cli.contracts import UserError
from unierase_cli.editing.patch import Patch, apply_patches, has_patch
from unierase_cli.editing.solve import LowRank
from unierase_cli.editing.weights import AppliedPatch
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.token_rows import TokenRows

FAMILIES = ["llama", "llama_tied", "qwen2", "gpt2"]


def low_rank(loaded: LoadedModel, layer: int, seed: int, scale: float = 0.05) -> LowRank:
    generator = torch.Generator().manual_seed(seed)
    h, d = loaded.architecture.hidden_size, loaded.architecture.inner_size(layer)
    return LowRank(scale * torch.randn(h, 3, generator=generator), torch.randn(d, 3, generator=generator))


def rows_for(loaded: LoadedModel, names: list[str]) -> TokenRows:
    generator = torch.Generator().manual_seed(5)
    first = len(loaded.tokenizer)
    shape = (len(names), loaded.architecture.hidden_size)
    out = None if loaded.architecture.tied else torch.randn(shape, generator=generator)
    return TokenRows(names, [first + i for i in range(len(names))], torch.randn(shape, generator=generator), out)


def make_patch(loaded: LoadedModel, seed: int = 1, tokens: TokenRows | None = None) -> Patch:
    hashes = AppliedPatch(loaded).hashes([1, 2])
    return Patch(tokens, {n: low_rank(loaded, n, seed + n) for n in (1, 2)}, hashes, {"step": 0})


def bits(loaded: LoadedModel) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}


def same_bits(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_reverting_a_patch_is_bit_exact(family: str, dtype: torch.dtype) -> None:
    loaded = tiny(family)
    loaded.model.to(dtype)
    before = bits(loaded)
    tokens = rows_for(loaded, ["<unlearn_0>", "<unlearn_1>"])
    applied = apply_patches(loaded, [make_patch(loaded, 1, tokens), make_patch(loaded, 11)])
    assert not same_bits(before, bits(loaded))
    assert loaded.unlearn_ids == tokens.ids
    applied.revert()
    assert same_bits(before, bits(loaded))
    assert loaded.unlearn_ids == []


def test_weights_are_the_base_plus_the_changes_in_step_order_rounded_once() -> None:
    loaded = tiny_llama()
    loaded.model.to(torch.bfloat16)
    patches = [make_patch(loaded, seed) for seed in (1, 2, 3)]
    base = loaded.architecture.weight(2)
    apply_patches(loaded, patches)
    total = base
    for patch in patches:
        total = total + patch.factors[2].dense()
    assert torch.equal(loaded.architecture.projection(2).weight, total.to(torch.bfloat16))


def test_only_the_named_projections_and_rows_change() -> None:
    loaded = tiny_llama()
    before = bits(loaded)
    applied = apply_patches(loaded, [make_patch(loaded)])
    changed = {name for name, tensor in bits(loaded).items() if not torch.equal(tensor, before[name])}
    assert changed == {f"{loaded.architecture.projection_name(n)}.weight" for n in (1, 2)}
    assert applied.layers == [1, 2]


@pytest.mark.parametrize("family", ["llama", "llama_tied"])
def test_a_saved_patch_gives_the_same_bits_as_the_one_in_memory(family: str, tmp_path: Path) -> None:
    one, two = tiny(family), tiny(family)
    patch = make_patch(one, 1, rows_for(one, ["<unlearn_0>"]))
    assert not has_patch(tmp_path, 4)
    patch.save(tmp_path, 4)
    assert has_patch(tmp_path, 4)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["patch-004.json", "patch-004.safetensors"]
    apply_patches(one, [patch])
    apply_patches(two, [Patch.load(tmp_path, 4)])
    assert same_bits(bits(one), bits(two))
    assert Patch.load(tmp_path, 4).info == {"step": 0}


def test_a_patch_of_another_model_is_refused_and_nothing_is_changed() -> None:
    loaded, other = tiny_llama(seed=0), tiny_llama(seed=1)
    before = bits(other)
    with pytest.raises(UserError, match=r"belongs to another model: model.layers.1.mlp.down_proj: its content differs"):
        apply_patches(other, [make_patch(loaded)])
    assert same_bits(before, bits(other))


def test_a_patch_made_in_another_type_or_for_other_names_says_so() -> None:
    patch = make_patch(tiny_llama())
    half = tiny_llama()
    half.model.to(torch.bfloat16)
    with pytest.raises(UserError, match="made on float32 weights, this one has bfloat16"):
        apply_patches(half, [patch])
    with pytest.raises(UserError, match="which this model does not have"):
        apply_patches(tiny("gpt2"), [patch])


def test_a_patch_cannot_be_applied_twice() -> None:
    loaded = tiny_llama()
    patch = make_patch(loaded)
    apply_patches(loaded, [patch])
    with pytest.raises(UserError, match="belongs to another model"):
        apply_patches(loaded, [patch])


def test_a_damaged_or_missing_patch_is_one_clear_line(tmp_path: Path) -> None:
    loaded = tiny_llama()
    with pytest.raises(UserError, match=r"patch-000.json is missing or damaged"):
        Patch.load(tmp_path, 0)
    make_patch(loaded).save(tmp_path, 0)
    (tmp_path / "patch-000.safetensors").write_bytes(b"half")
    with pytest.raises(UserError, match="not a readable safetensors file"):
        Patch.load(tmp_path, 0)


def test_a_change_that_rounding_swallows_is_noticed() -> None:
    loaded = tiny_llama()
    loaded.model.to(torch.bfloat16)
    applied = AppliedPatch(loaded)
    applied.add(1, low_rank(loaded, 1, 1, scale=1e-9))
    assert applied.unchanged()
    applied.add(1, low_rank(loaded, 1, 1, scale=1.0))
    assert not applied.unchanged()
    change, base = applied.change(1)
    assert change > 0
    assert base == pytest.approx(float(tiny_llama().architecture.weight(1).norm()), rel=1e-2)
