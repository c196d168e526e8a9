"""Patches: saved, applied, taken back, and refused where they don't belong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.helpers.patches import bits, dense_patch, low_rank, make_patch, named_patch, parameters, rows_for, same_bits
from tests.helpers.tiny_models import tiny, tiny_llama
from unierase_cli.contracts import UserError
from unierase_cli.editing.apply import apply_patches
from unierase_cli.editing.patch import Patch, changed_parameters
from unierase_cli.editing.solve import LowRank
from unierase_cli.editing.weights import AppliedPatch
from unierase_cli.models.token_rows import apply_token
from unierase_cli.store.tensors import save_tensors

FAMILIES = ["llama", "llama_tied", "qwen2", "gpt2"]


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
    assert not (tmp_path / "patch-004.json").exists()
    patch.save(tmp_path, 4)
    assert (tmp_path / "patch-004.json").exists()
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("make", [dense_patch, named_patch])
def test_reverting_changes_by_name_is_bit_exact(make, family: str, dtype: torch.dtype) -> None:
    loaded = tiny(family)
    loaded.model.to(dtype)
    before, patches = bits(loaded), [make(loaded, seed=1), make(loaded, seed=2)]
    applied = apply_patches(loaded, patches)
    changed = {name for name, p in parameters(loaded).items() if not torch.equal(p, before[name])}
    assert changed == patches[0].dense.keys() | patches[0].named.keys()
    assert (loaded.model.get_output_embeddings().weight is loaded.architecture.embedding.weight) == loaded.architecture.tied
    assert not applied.unchanged()
    applied.revert()
    assert same_bits(before, bits(loaded))
    applied.add_patch(patches[0])
    applied.revert()
    assert same_bits(before, bits(loaded))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_changes_by_name_add_up_unrounded_and_dense_tensors_replace(family: str, dtype: torch.dtype) -> None:
    loaded = tiny(family)
    loaded.model.to(dtype)
    projection = f"{loaded.architecture.projection_name(2)}.weight"
    base = parameters(loaded)[projection].float()
    first, second = (named_patch(loaded, seed, [projection]) for seed in (1, 2))
    edit = make_patch(loaded)
    dense = dense_patch(loaded, 3, [projection])
    deltas = [patch.named[projection].dense() for patch in (first, second)]
    # A closed-form edit is [h, d]; GPT-2 keeps the transpose.
    edited = edit.factors[2].dense().T if family == "gpt2" else edit.factors[2].dense()
    final = dense.dense[projection].float()
    for patches, total in (
        ([first, second], base + deltas[0] + deltas[1]),
        ([first, edit, second], base + deltas[0] + edited + deltas[1]),
        ([edit, dense], final),
        ([first, dense, second], final + deltas[1]),
        ([dense, first, second], final + deltas[0] + deltas[1]),
        ([dense, edit, first], final + edited + deltas[0]),
    ):
        applied = apply_patches(loaded, patches)
        assert torch.equal(parameters(loaded)[projection], total.to(dtype))
        applied.revert()
        assert torch.equal(parameters(loaded)[projection].float(), base)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_patch_by_name_gives_the_same_bits_as_the_one_in_memory(family: str, tmp_path: Path) -> None:
    one, two = tiny(family), tiny(family)
    one.model.to(torch.bfloat16)
    two.model.to(torch.bfloat16)
    for index, patch in enumerate([dense_patch(one), named_patch(one)]):
        patch.save(tmp_path, index)
    apply_patches(one, [dense_patch(one), named_patch(one)])
    apply_patches(two, (Patch.load(tmp_path, index) for index in range(2)))
    assert same_bits(bits(one), bits(two))


def test_a_patch_file_of_before_there_were_changes_by_name_is_read(tmp_path: Path) -> None:
    loaded = tiny_llama()
    make_patch(loaded).save(tmp_path, 0)
    record = json.loads((tmp_path / "patch-000.json").read_text())
    del record["dense"], record["named"]
    (tmp_path / "patch-000.json").write_text(json.dumps(record))
    found = Patch.load(tmp_path, 0)
    assert (found.dense, found.named) == ({}, {})
    assert apply_patches(loaded, [found]).layers == [1, 2]


@pytest.mark.parametrize("make", [dense_patch, named_patch])
def test_a_patch_by_name_of_another_model_is_refused_and_nothing_is_changed(make) -> None:
    patch, other, half = make(tiny_llama(seed=0)), tiny_llama(seed=1), tiny_llama(seed=0)
    half.model.to(torch.bfloat16)
    before = bits(other)
    with pytest.raises(UserError, match="belongs to another model: model.*: its content differs"):
        apply_patches(other, [make(other), patch])
    assert same_bits(before, bits(other)), "the step that was applied is taken back"
    with pytest.raises(UserError, match="made on float32 weights, this one has bfloat16"):
        apply_patches(half, [patch])
    with pytest.raises(UserError, match="which this model does not have"):
        apply_patches(tiny("gpt2"), [patch])


def test_hashes_by_name_are_of_the_unedited_tensors_whatever_the_changes_so_far() -> None:
    loaded = tiny_llama()
    applied = AppliedPatch(loaded)
    before = applied.hashes_of(parameters(loaded))
    applied.add_patch(dense_patch(loaded))
    applied.add_patch(named_patch(loaded))
    assert applied.hashes_of(parameters(loaded)) == before
    applied.check(before)


def test_a_tensor_of_another_shape_type_or_name_is_refused() -> None:
    applied = AppliedPatch(tiny_llama(tied=True))
    name = "model.norm.weight"
    for tensor in (torch.ones(31), torch.ones(32, dtype=torch.bfloat16)):
        with pytest.raises(UserError, match=r"the model's is \[32\] float32"):
            applied.set_dense(name, tensor)
    with pytest.raises(UserError, match=r"is \[32, 1\], the model's is \[32\]"):
        applied.add_named(name, LowRank(torch.ones(32, 1), torch.ones(1, 1)))
    with pytest.raises(UserError, match="lm_head.weight, which this model does not have"):
        applied.set_dense("lm_head.weight", torch.ones(1))
    assert applied.unchanged()


@pytest.mark.parametrize("family", ["llama", "llama_tied"])
def test_token_rows_and_a_new_embedding_are_not_combined_other_changes_are(family: str) -> None:
    loaded = tiny(family)
    before = bits(loaded)
    tokens = make_patch(loaded, tokens=rows_for(loaded, ["<unlearn_0>"]))
    dense, named = dense_patch(loaded), named_patch(loaded)
    for patches in ([tokens, dense], [dense, tokens]):
        with pytest.raises(UserError, match="cannot be combined"):
            apply_patches(loaded, patches)
        assert same_bits(before, bits(loaded))
    apply_patches(loaded, [tokens, named]).revert()
    assert same_bits(before, bits(loaded))


def test_every_element_of_a_touched_tensor_counts_as_changed() -> None:
    loaded = tiny_llama(tied=True)
    everything = sum(p.numel() for p in loaded.model.parameters())
    projection = f"{loaded.architecture.projection_name(1)}.weight"
    assert changed_parameters(dense_patch(loaded), loaded) == everything
    assert changed_parameters(named_patch(loaded, names=[projection]), loaded) == 32 * 48
    edit = make_patch(loaded, tokens=rows_for(loaded, ["<unlearn_0>", "<unlearn_1>"]))
    assert changed_parameters(edit, loaded) == 2 * 32 * 48 + 2 * 32
    both = replace(edit, named=named_patch(loaded, names=[projection]).named)
    assert changed_parameters(both, loaded) == 2 * 32 * 48 + 2 * 32, "a tensor that is changed twice counts once"


def test_a_change_by_name_that_rounding_swallows_is_noticed() -> None:
    loaded = tiny_llama()
    loaded.model.to(torch.bfloat16)
    name = f"{loaded.architecture.projection_name(1)}.weight"
    applied = AppliedPatch(loaded)
    applied.set_dense(name, parameters(loaded)[name].clone())
    applied.add_named(name, LowRank(torch.full((32, 1), 1e-12), torch.ones(48, 1)))
    assert applied.unchanged()
    applied.add_named(name, LowRank(torch.ones(32, 1), torch.ones(48, 1)))
    assert not applied.unchanged()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["layer.1.left", "layer.2.right", "tokens.rows_in", "tokens.rows_out"])
def test_a_patch_that_is_not_finite_is_neither_written_nor_read(tmp_path: Path, name: str, value: float) -> None:
    loaded = tiny_llama()
    patch = make_patch(loaded, tokens=rows_for(loaded, ["<unlearn_0>"]))
    patch.save(tmp_path, 0)
    tensors = patch.tensors()
    tensors[name].view(-1)[:2] = value
    told = f"2 of {tensors[name].numel()} values of {name} are NaN or infinite"
    with pytest.raises(UserError, match=f"the change of step 1: {told} - lower the rate"):
        patch.save(tmp_path, 1)
    assert not (tmp_path / "patch-001.json").exists()
    save_tensors(tmp_path / "patch-000.safetensors", tensors)
    with pytest.raises(UserError, match=f"patch-000.safetensors: {told} - make the edit again"):
        Patch.load(tmp_path, 0)


def test_weights_that_a_patch_makes_infinite_are_refused_and_the_model_is_as_before() -> None:
    loaded = tiny_llama()
    loaded.model.to(torch.float16)
    before = bits(loaded)
    large = LowRank(torch.full((32, 1), 300.0), torch.full((48, 1), 300.0))
    with pytest.raises(UserError, match=r"the model with the patch: 1536 of 1536 values of .*down_proj.weight are NaN or infinite"):
        apply_patches(loaded, [Patch(None, {1: large}, {}, {})])
    assert all(torch.equal(tensor, before[name]) for name, tensor in loaded.model.state_dict().items())


def test_every_token_of_a_patch_is_compared_with_the_one_that_the_model_has_by_its_name() -> None:
    loaded = tiny_llama()
    apply_token(loaded, rows_for(loaded, ["<unlearn_1>"]))
    before = bits(loaded)
    # The first of the two names is unknown to the model, the second leads elsewhere there.
    with pytest.raises(UserError, match="the model has another <unlearn_1> than the patch"):
        AppliedPatch(loaded).set_tokens(rows_for(loaded, ["<unlearn_0>", "<unlearn_1>"]))
    assert same_bits(before, bits(loaded))


def test_factors_that_do_not_fit_each_other_are_a_damaged_patch(tmp_path: Path) -> None:
    patch = make_patch(tiny_llama())
    layer, factor = next(iter(patch.factors.items()))
    replace(patch, factors={layer: LowRank(factor.left[:, :-1], factor.right)}).save(tmp_path, 0)
    with pytest.raises(UserError, match="not a pair of matrices with the same number of columns"):
        Patch.load(tmp_path, 0)
