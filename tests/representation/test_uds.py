"""UDS and the logit lens on tiny random models of several families."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch

from tests.helpers.tiny_models import FACTS, FAMILIES, FURTHER, tiny, tiny_llama
from unierase_cli.contracts import UserError
from unierase_cli.models.load import LoadedModel
from unierase_cli.representation.depth import Depth, depth_of, erased_share
from unierase_cli.representation.entities import entities_of
from unierase_cli.representation.lens import lens_depth
from unierase_cli.representation.rows import EntityRow, entity_rows
from unierase_cli.representation.states import States, patched_scores, plain_scores, read_states
from unierase_cli.representation.uds import check_sanity, unlearning_depth

SOME = [0.3, 0.1, -0.2, 0.6]


@cache
def model(family: str, seed: int) -> LoadedModel:
    return tiny(family, seed=seed)


def rows(loaded: LoadedModel) -> list[EntityRow]:
    """Rows of different lengths."""
    return entity_rows(loaded.prompts, entities_of(FACTS[:5])).rows


def depth(full: LoadedModel, retain: LoadedModel, unlearned: LoadedModel, **settings: int) -> Depth:
    own = rows(full)
    return unlearning_depth(full, own, read_states(retain, own), read_states(unlearned, own), threshold=0.0, **settings)


@pytest.mark.parametrize("family", [*FAMILIES, *FURTHER])
def test_the_full_model_scores_0_and_the_retain_model_1_to_the_bit(family: str) -> None:
    full, retain = model(family, 0), model(family, 1)
    of_full, of_retain = depth(full, retain, full), depth(full, retain, retain)
    assert set(of_full.scores.values()) == {0.0}
    assert set(of_retain.scores.values()) == {1.0}
    assert all(lost == 0 for row in of_full.rows for lost in row.unlearned)
    check_sanity(of_full, of_retain, tolerance=0.0)


@pytest.mark.parametrize("family", [*FAMILIES, *FURTHER])
def test_a_patch_is_what_a_hook_on_the_whole_model_makes_of_it(family: str) -> None:
    full, own = model(family, 0), rows(model(family, 0))[:1]
    states = read_states(model(family, 1), own)
    for layer in range(full.architecture.n_blocks):

        def patch(_module: object, _arguments: object, output: object, layer: int = layer) -> object:
            hidden = (output[0] if isinstance(output, tuple) else output).clone()
            hidden[0, list(own[0].positions)] = states.of[0][layer]
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        handle = full.architecture.blocks[layer].register_forward_hook(patch)
        with torch.no_grad():
            logits = full.model(input_ids=torch.tensor([own[0].ids])).logits[0]
        handle.remove()
        wanted = logits.log_softmax(-1)[list(own[0].positions), own[0].labels].mean()
        assert float(patched_scores(full, own, states)[0, layer]) == pytest.approx(float(wanted), abs=1e-4)


def test_scores_do_not_depend_on_the_batch_nor_on_the_side_that_the_tokenizer_pads_on() -> None:
    full, retain, unlearned = (tiny_llama(seed=seed) for seed in range(3))
    together = depth(full, retain, unlearned)
    alone = depth(full, retain, unlearned, batch_tokens=1)
    full.tokenizer.padding_side = "left" if full.tokenizer.padding_side == "right" else "right"
    other_side = depth(full, retain, unlearned)
    for found in (alone, other_side):
        assert found.value == pytest.approx(together.value, abs=1e-5)
        for row, same in zip(found.rows, together.rows, strict=True):
            assert row.retain == pytest.approx(same.retain, abs=1e-5)
            assert row.unlearned == pytest.approx(same.unlearned, abs=1e-5)


def test_what_follows_the_entity_makes_no_difference() -> None:
    full = model("llama", 0)
    own = rows(full)
    longer = [replace(row, ids=[*row.ids, *row.ids[:9]]) for row in own]
    assert torch.equal(plain_scores(full, own), plain_scores(full, longer))


def test_the_logit_lens_of_the_full_model_is_0_and_of_the_retain_model_1() -> None:
    full, retain = model("llama", 0), model("llama", 1)
    own = rows(full)
    f, r = read_states(full, own), read_states(retain, own)
    assert set(lens_depth(full, own, f, r, f, threshold=0.0).scores.values()) == {0.0}
    assert set(lens_depth(full, own, f, r, r, threshold=0.0).scores.values()) == {1.0}


def test_models_of_other_widths_and_depths_are_refused() -> None:
    full = model("llama", 0)
    for other in (tiny_llama(num_hidden_layers=3), tiny_llama(hidden_size=16)):
        with pytest.raises(UserError, match="do not fit a model of 4 blocks of width 32"):
            patched_scores(full, rows(full), read_states(other, rows(full)))


def test_a_score_weighs_blocks_by_what_the_retain_model_loses_there() -> None:
    known = torch.zeros(1)
    retain, unlearned = torch.tensor([[-4.0, -2.0, -0.04]]), torch.tensor([[-1.0, -3.0, -9.0]])
    found = depth_of(["a"], known, retain, unlearned)
    # 4 * 1/4 and 2 * 1 of 6; the third block is below the threshold.
    assert found.value == pytest.approx(3 / 6)
    assert [block.n for block in found.blocks] == [1, 1, 0]
    assert [block.erased for block in found.blocks] == [0.25, 1.0, None]


def test_the_threshold_is_strict_and_rows_without_a_block_do_not_enter_the_mean() -> None:
    known = torch.tensor([0.0, -3.0])
    retain = torch.tensor([[-0.5, -0.25], [-3.5, -4.0]])
    found = depth_of(["a", "b"], known, retain, retain, threshold=0.5)
    assert [row.score for row in found.rows] == [None, 1.0]
    assert (found.value, found.without_block, found.unknown) == (1.0, 1, 1)
    assert depth_of(["a"], known[:1], retain[:1], retain[:1], threshold=0.5).value is None


def test_rows_whose_logits_are_no_numbers_are_named_and_not_scored() -> None:
    known = torch.zeros(2)
    retain = torch.tensor([[-1.0], [float("nan")]])
    found = depth_of(["a", "b"], known, retain, torch.tensor([[-0.5], [-0.5]]))
    assert (found.failed, found.value, len(found.rows)) == (["b"], 0.5, 1)


def test_damage_beyond_the_retain_model_and_gains_are_cut_off() -> None:
    assert [erased_share(2.0, lost) for lost in (-1.0, 0.0, 1.0, 5.0)] == [0.0, 0.0, 0.5, 1.0]


def test_a_negative_threshold_and_other_shapes_are_refused() -> None:
    with pytest.raises(UserError, match="negative"):
        depth_of(["a"], torch.zeros(1), torch.zeros(1, 2), torch.zeros(1, 2), threshold=-1)
    with pytest.raises(ValueError, match="shapes"):
        depth_of(["a"], torch.zeros(1), torch.zeros(1, 2), torch.zeros(1, 3))


def test_a_score_is_not_to_be_read_where_the_two_ends_are_not_0_and_1() -> None:
    known = torch.zeros(1)
    half = depth_of(["a"], known, torch.tensor([[-2.0]]), torch.tensor([[-1.0]]))
    with pytest.raises(UserError, match=r"full model's own UDS is 0\.5000, not 0"):
        check_sanity(half, half)


def test_no_rows_have_no_score() -> None:
    full = model("llama", 0)
    found = unlearning_depth(full, [], States([]), States([]))
    assert (found.value, found.rows) == (None, [])
