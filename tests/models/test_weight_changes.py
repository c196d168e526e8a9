"""Noise, pruning, interpolation and the removal of a direction."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.helpers.tiny_models import FAMILIES, tiny, tiny_llama
from unierase_cli.contracts import UserError
from unierase_cli.models.direction import difference_of_means, without_direction
from unierase_cli.models.input_norms import input_norms
from unierase_cli.models.interpolation import moved_towards
from unierase_cli.models.partial import pad_sequences, run_lower
from unierase_cli.models.vocabulary import add_unlearning_tokens
from unierase_cli.models.weight_changes import interpolated, pruned, with_noise


def weight() -> Tensor:
    return torch.randn(8, 20, generator=torch.Generator().manual_seed(0))


def test_noise_is_as_large_as_asked_and_the_same_for_the_same_seed() -> None:
    large = torch.randn(200, 300, generator=torch.Generator().manual_seed(1)) * 3
    noisy = [with_noise(large, 0.1, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(noisy[0], noisy[1])
    assert not torch.equal(noisy[0], noisy[2])
    assert float((noisy[0] - large).std() / large.std()) == pytest.approx(0.1, rel=0.02)
    assert torch.equal(with_noise(large, 0.0, torch.Generator()), large)


@pytest.mark.parametrize("per_row", [False, True])
def test_pruning_sets_the_smallest_entries_to_zero_and_keeps_the_others(per_row: bool) -> None:
    before = weight()
    after = pruned(before, 0.3, per_row=per_row)
    gone = after == 0
    assert int(gone.sum()) == 48
    assert torch.equal(after[~gone], before[~gone])
    if per_row:
        assert gone.sum(1).tolist() == [6] * 8
        assert all(before[row][gone[row]].abs().max() <= before[row][~gone[row]].abs().min() for row in range(8))
    else:
        assert before[gone].abs().max() <= before[~gone].abs().min()
    assert torch.equal(pruned(before, 0.0, per_row=per_row), before)
    assert not pruned(before, 1.0, per_row=per_row).any()


def test_equal_entries_are_pruned_one_by_one() -> None:
    assert int((pruned(torch.ones(4, 10), 0.25) == 0).sum()) == 10


def test_pruning_by_activations_takes_what_is_driven_least() -> None:
    norms = torch.ones(20)
    norms[:5] = 0
    after = pruned(weight(), 0.25, per_row=True, input_norms=norms)
    assert not after[:, :5].any()
    assert bool((after[:, 5:] != 0).all())


def test_a_share_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match="share of 1.5"):
        pruned(weight(), 1.5)


def test_interpolation_leads_to_the_other_weight_and_away_from_it() -> None:
    here, there = weight(), weight() + 1
    assert torch.equal(interpolated(here, there, 0.0), here)
    assert torch.allclose(interpolated(here, there, 1.0), there)
    assert torch.allclose(interpolated(here, there, -0.5), here - 0.5)
    with pytest.raises(UserError, match=r"up_proj is \(8, 20\) in one model and \(8, 19\)"):
        interpolated(here, there[:, :19], 0.5, "up_proj")


@pytest.mark.parametrize("tied", [False, True])
def test_a_model_moved_all_the_way_is_the_other_one_but_for_its_own_tokens_and_comes_back_bit_for_bit(
    tied: bool,
) -> None:
    loaded, other = tiny_llama(tied, seed=0), tiny_llama(tied, seed=1)
    rows = len(other.architecture.embedding.weight)
    add_unlearning_tokens(loaded, ["[UNL]"], torch.Generator().manual_seed(0))
    before = {name: p.detach().clone() for name, p in loaded.model.named_parameters()}
    with moved_towards(loaded, other, 1.0):
        for name, there in other.model.named_parameters():
            here = dict(loaded.model.named_parameters())[name]
            assert torch.allclose(here[: len(there)], there, atol=1e-6)
            assert torch.equal(here[len(there) :], before[name][len(there) :])
        assert len(loaded.architecture.embedding.weight) == rows + 1
    assert all(torch.equal(p, before[name]) for name, p in loaded.model.named_parameters())


def test_a_model_of_another_architecture_is_refused_before_anything_changes() -> None:
    loaded = tiny_llama()
    before = loaded.architecture.weight(0)
    for other in (tiny_llama(intermediate_size=64), tiny("gpt2")):
        with pytest.raises(UserError, match="one architecture"), moved_towards(loaded, other, 0.5):
            pass
    assert torch.equal(loaded.architecture.weight(0), before)


@pytest.mark.parametrize("family", FAMILIES)
def test_input_norms_are_those_of_the_real_tokens(family: str) -> None:
    loaded = tiny(family)
    long, short = [5, 6, 7, 8, 9, 10], [11, 12]
    norms = input_norms(loaded, [long, short])
    apart = [input_norms(loaded, [sequence]) for sequence in (long, short)]
    for name, norm in norms.items():
        module = loaded.model.get_submodule(name)
        assert norm.shape == ((module.nx,) if hasattr(module, "nx") else (module.in_features,))
        assert torch.allclose(norm, (apart[0][name] ** 2 + apart[1][name] ** 2).sqrt(), rtol=1e-4)
    assert set(map(loaded.architecture.projection_name, range(4))) <= norms.keys()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_removed_direction_is_in_no_block_output_and_comes_back_afterwards(family: str) -> None:
    loaded = tiny(family)
    batch = pad_sequences([[5, 6, 7, 8]], loaded.prompts.pad_id, loaded.device)

    def outputs() -> Tensor:
        found = []
        run_lower(loaded.architecture, batch, outputs_of=range(4), on_output=lambda _layer, x: found.append(x.clone()))
        return torch.stack(found)

    before = outputs()
    unit = difference_of_means(before[1, 0, :2], before[1, 0, 2:])
    assert float(unit.norm()) == pytest.approx(1)
    with without_direction(loaded.architecture, unit):
        assert float((outputs() @ unit).abs().max()) < 1e-4
    assert torch.equal(outputs(), before)


def test_states_with_one_mean_have_no_direction_between_them() -> None:
    same = torch.ones(3, tiny_llama().architecture.hidden_size)
    with pytest.raises(ValueError, match="same mean"):
        difference_of_means(same, same)
