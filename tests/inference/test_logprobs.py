"""Teacher-forced scores equal those of the model run on one row at a time."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.tiny_models import FACTS, FAMILIES, tiny, tiny_llama
from unierase_cli.contracts import AnswerScore, UserError
from unierase_cli.inference import logprobs
from unierase_cli.inference.logprobs import score_answers
from unierase_cli.models.load import LoadedModel


def items(loaded: LoadedModel) -> list[tuple[list[int], list[int]]]:
    """Three answers for each of four questions, and a prompt of a single token."""
    pairs = [
        (loaded.prompts.prompt(fact.question).ids, loaded.prompts.answer_ids(other.answer))
        for fact in FACTS[:4]
        for other in FACTS[2:5]
    ]
    return [*pairs, ([7], loaded.prompts.answer_ids("Yes."))]


def naive(loaded: LoadedModel, prompt: list[int], answer: list[int]) -> AnswerScore:
    logits = loaded.model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1].double()
    log_p = logits.log_softmax(-1)
    mean = (log_p.exp() * log_p).sum(-1)
    variance = (log_p.exp() * (log_p - mean[:, None]) ** 2).sum(-1)
    chosen = log_p[range(len(answer)), answer]
    hits = [int(a) == b for a, b in zip(logits.argmax(-1), answer, strict=True)]
    return AnswerScore(answer, chosen.tolist(), hits, mean.tolist(), variance.tolist())


def agree(found: AnswerScore, expected: AnswerScore, tolerance: float = 2e-5) -> None:
    assert found.token_ids == expected.token_ids
    assert found.is_argmax == expected.is_argmax
    assert found.log_probs == pytest.approx(expected.log_probs, abs=tolerance)
    assert found.mean_log_prob == pytest.approx(expected.mean_log_prob, abs=tolerance)
    assert found.var_log_prob == pytest.approx(expected.var_log_prob, abs=tolerance * 10)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_scores_as_one_row_at_a_time_does(family: str) -> None:
    loaded = tiny(family)
    for item, found in zip(items(loaded), score_answers(loaded, items(loaded), batch_size=5), strict=True):
        agree(found, naive(loaded, *item))
        assert found.ends


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_scores_do_not_depend_on_the_batch_size_beyond_rounding(batch_size: int) -> None:
    loaded = tiny_llama(seed=2)
    expected = score_answers(loaded, items(loaded), batch_size=7)
    for found, other in zip(score_answers(loaded, items(loaded), batch_size=batch_size), expected, strict=True):
        agree(found, other, 1e-5)


def test_the_head_may_be_applied_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny_llama(seed=2)
    expected = score_answers(loaded, items(loaded))
    monkeypatch.setattr(logprobs, "SCORED_POSITIONS", 5)
    for found, other in zip(score_answers(loaded, items(loaded)), expected, strict=True):
        agree(found, other, 1e-5)


def test_the_average_loss_counts_the_end_token() -> None:
    loaded = tiny_llama()
    prompt, answer = items(loaded)[0]
    assert answer[-1] == loaded.prompts.end_id
    score = score_answers(loaded, [(prompt, answer)])[0]
    assert len(score.log_probs) == len(answer)
    assert score.average_loss == pytest.approx(-sum(score.log_probs) / len(answer))


def test_an_answer_that_does_not_fit_is_cut_and_says_so() -> None:
    loaded = tiny_llama()
    prompt, answer = items(loaded)[0]
    whole = score_answers(loaded, [(prompt, answer)])[0]
    loaded.prompts.max_length = len(prompt) + 3
    cut = score_answers(loaded, [(prompt, answer)])[0]
    assert (cut.token_ids, cut.ends) == (answer[:3], False)
    assert cut.log_probs == pytest.approx(whole.log_probs[:3], abs=1e-5)
    loaded.prompts.max_length = None
    assert len(score_answers(loaded, [(prompt, answer)], total_tokens=len(prompt) + 2)[0].token_ids) == 2


def test_a_prompt_without_room_is_refused_and_nan_is_one_clear_line() -> None:
    loaded = tiny_llama()
    with pytest.raises(UserError, match="context"):
        score_answers(loaded, [([5] * 256, [6])])
    with torch.no_grad():
        loaded.architecture.projection(2).weight.fill_(float("nan"))
    with pytest.raises(UserError, match="not numbers"):
        score_answers(loaded, items(loaded))
