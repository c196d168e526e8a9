"""Greedy generation: independent of the batch, bounded, and obedient to the decoding variants."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.eager_token import prompts, with_eager_token
from tests.helpers.tiny_models import FAMILIES, tiny, tiny_llama, tiny_mistral
from unierase_cli.contracts import UserError
from unierase_cli.inference.batching import choose_batch_size, length_sorted, restored
from unierase_cli.inference.generate import generate
from unierase_cli.models.load import LoadedModel


def one_by_one(loaded: LoadedModel, prompt: list[int], steps: int) -> list[int]:
    """Greedy decoding without batches or memory: the whole sequence through the model for every token."""
    ids: list[int] = []
    for _ in range(steps):
        logits = loaded.model(torch.tensor([prompt + ids])).logits[0, -1]
        token = int(logits.argmax())
        if token in loaded.prompts.stop_ids:
            break
        ids.append(token)
    return ids


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_generates_as_one_row_without_memory_does(family: str) -> None:
    loaded = tiny(family)
    found = generate(loaded, prompts(loaded), max_new_tokens=12, batch_size=4)
    assert [g.ids for g in found] == [one_by_one(loaded, p, 12) for p in prompts(loaded)]


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_answers_do_not_depend_on_the_batch_size(batch_size: int) -> None:
    loaded = tiny_llama(seed=3)
    expected = generate(loaded, prompts(loaded), max_new_tokens=60, batch_size=5)
    assert generate(loaded, prompts(loaded), max_new_tokens=60, batch_size=batch_size) == expected


def test_a_sliding_window_shorter_than_the_prompt_is_respected() -> None:
    loaded = tiny_mistral()
    wide = generate(loaded, prompts(loaded), max_new_tokens=12)
    loaded.model.config.sliding_window = 8
    found = generate(loaded, prompts(loaded), max_new_tokens=12, batch_size=4)
    assert [g.ids for g in found] == [one_by_one(loaded, p, 12) for p in prompts(loaded)]
    assert found != wide


def test_rows_that_end_early_leave_the_others_unchanged() -> None:
    loaded = tiny_llama(seed=3)
    free = generate(loaded, prompts(loaded), max_new_tokens=20)
    # A token that some rows say early becomes a stop token.
    loaded.prompts.stop_ids = sorted({*loaded.prompts.stop_ids, free[0].ids[2]})
    stopped = generate(loaded, prompts(loaded), max_new_tokens=20)
    for before, after in zip(free, stopped, strict=True):
        assert before.ids[: len(after.ids)] == after.ids
        assert after.stop == ("end" if len(after.ids) < len(before.ids) else before.stop)
    assert {g.stop for g in stopped} >= {"end", "length"}


def test_an_answer_stops_at_the_protocols_length_and_at_the_models_context() -> None:
    loaded = tiny_llama(seed=3)
    prompt = prompts(loaded)[0]
    loaded.prompts.stop_ids = []
    assert [(len(g.ids), g.stop) for g in generate(loaded, [prompt], max_new_tokens=7)] == [(7, "length")]
    loaded.prompts.max_length = len(prompt) + 5
    assert [(len(g.ids), g.stop) for g in generate(loaded, [prompt], max_new_tokens=7)] == [(5, "context")]
    assert [(len(g.ids), g.stop) for g in generate(loaded, [prompt], max_new_tokens=5)] == [(5, "length")]


def test_prompt_and_answer_together_can_be_bounded() -> None:
    loaded = tiny_llama(seed=3)
    loaded.prompts.stop_ids = []
    prompt = prompts(loaded)[0]
    found = generate(loaded, [prompt], max_new_tokens=50, total_tokens=len(prompt) + 3)[0]
    assert (len(found.ids), found.stop) == (3, "length")


def test_a_prompt_that_fills_the_context_is_refused() -> None:
    loaded = tiny_llama()
    with pytest.raises(UserError, match="does not fit the model's context of 256"):
        generate(loaded, [[5] * 256], max_new_tokens=1)


def test_forbidden_ids_are_never_chosen() -> None:
    loaded = tiny_llama(seed=3)
    free = generate(loaded, prompts(loaded), max_new_tokens=10)
    forbid = sorted({g.ids[0] for g in free})
    found = generate(loaded, prompts(loaded), max_new_tokens=10, forbid=forbid)
    assert not set(forbid) & {token for g in found for token in g.ids}


def test_once_allows_one_unlearning_token_per_answer() -> None:
    loaded = with_eager_token(tiny_llama(seed=3))
    token = loaded.unlearn_ids[0]
    free = generate(loaded, prompts(loaded), max_new_tokens=10)
    once = generate(loaded, prompts(loaded), max_new_tokens=10, once=True)
    forbidden = generate(loaded, prompts(loaded), max_new_tokens=10, forbid=loaded.unlearn_ids)
    assert max(g.ids.count(token) for g in free) > 1
    assert all(g.ids[0] == token and g.ids.count(token) == 1 for g in once)
    assert all(token not in g.ids for g in forbidden)


def test_the_first_probability_is_that_of_the_unlearning_tokens_before_anything_is_forbidden() -> None:
    loaded = with_eager_token(tiny_llama(seed=3))
    found = generate(loaded, prompts(loaded), max_new_tokens=2, forbid=loaded.unlearn_ids, batch_size=3)
    for prompt, answer in zip(prompts(loaded), found, strict=True):
        logits = loaded.model(torch.tensor([prompt])).logits[0, -1].float()
        expected = float(logits.softmax(-1)[loaded.unlearn_ids].sum())
        assert answer.first_unlearn_probability == pytest.approx(expected, abs=1e-5)
    assert generate(tiny_llama(), [[1, 5]], max_new_tokens=1)[0].first_unlearn_probability is None


def test_logits_that_are_not_numbers_are_one_clear_line() -> None:
    loaded = tiny_llama()
    with torch.no_grad():
        loaded.architecture.projection(2).weight.fill_(float("inf"))
    with pytest.raises(UserError, match="not numbers"):
        generate(loaded, prompts(loaded), max_new_tokens=2)


def test_batches_are_sorted_by_length_and_results_return_to_their_order() -> None:
    lengths = [3, 9, 1, 9, 4]
    batches = length_sorted(lengths, 2)
    assert batches == [[1, 3], [4, 0], [2]]
    assert restored(batches, [[lengths[i] for i in batch] for batch in batches]) == lengths
    assert length_sorted([], 4) == []


def test_a_wanted_batch_size_is_an_upper_bound_everywhere() -> None:
    assert choose_batch_size(5, "cpu") == choose_batch_size(5, "cpu", scoring=True) == choose_batch_size(5, "cuda") == 5
    assert choose_batch_size(0, "cpu") > 0 < choose_batch_size(0, "cuda", scoring=True)


def test_drawn_tokens_follow_the_models_distribution() -> None:
    loaded = tiny_llama(seed=3)
    prompt = prompts(loaded)[0]
    count = 4000
    draws = [[(place + 0.5) / count] for place in range(count)]
    found = generate(loaded, [prompt] * count, max_new_tokens=1, draws=draws, batch_size=500)
    said = torch.bincount(torch.tensor([g.ids[0] for g in found if g.ids]), minlength=len(loaded.tokenizer)) / count
    expected = torch.softmax(loaded.model(torch.tensor([prompt])).logits[0, -1], -1)
    expected[loaded.prompts.stop_ids] = 0
    assert torch.allclose(said, expected, atol=2 / count)


def test_drawn_answers_do_not_depend_on_the_batch_and_leave_out_what_is_forbidden() -> None:
    loaded = tiny_llama(seed=3)
    numbers = torch.rand(len(prompts(loaded)), 12, generator=torch.Generator().manual_seed(0)).tolist()
    expected = generate(loaded, prompts(loaded), max_new_tokens=12, draws=numbers, batch_size=1)
    assert generate(loaded, prompts(loaded), max_new_tokens=12, draws=numbers, batch_size=4) == expected
    banned = sorted({token for g in expected for token in g.ids[:3]})
    others = generate(loaded, prompts(loaded), max_new_tokens=12, draws=numbers, forbid=banned)
    assert not {token for g in others for token in g.ids} & set(banned)


@pytest.mark.parametrize("stop", [False, True])
def test_known_beginnings_change_no_answer(stop: bool) -> None:
    loaded = with_eager_token(tiny_llama(seed=3))
    asked = prompts(loaded)
    if stop:
        free = generate(loaded, asked, max_new_tokens=20)
        loaded.prompts.stop_ids = sorted({*loaded.prompts.stop_ids, free[0].ids[2], free[1].ids[5]})
    whole = generate(loaded, asked, max_new_tokens=12)
    ends = loaded.prompts.stop_ids[:1] if not stop else [free[0].ids[2]]
    for count in (0, 1, 3, 12):
        # As far as an answer goes; a row that says its end ends there.
        known = [[*g.ids[: max(0, count - place)], *(ends if count - place > len(g.ids) else [])] for place, g in enumerate(whole)]
        found = generate(loaded, asked, max_new_tokens=12, known=known, batch_size=3)
        assert [(g.ids, g.stop, g.surplus) for g in found] == [(g.ids, g.stop, g.surplus) for g in whole]
        for one, other in zip(found, whole, strict=True):
            assert one.first_unlearn_probability == pytest.approx(other.first_unlearn_probability, abs=1e-6)
