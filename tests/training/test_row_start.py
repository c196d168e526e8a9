"""Where the rows of unlearning tokens start."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from tests.helpers.tiny_models import FACTS, tiny, tiny_llama
from tests.helpers.token_learning import SHORT, learn
from unierase_cli.config.sections.token import TokenConfig
from unierase_cli.contracts import COMPLETION, UserError
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.vocabulary import get_rows
from unierase_cli.training.token.row_start import LARGEST_COSINE, ends_of, kept_directions, lifted, start_rows


@pytest.mark.parametrize("output_row", ["fresh", "reference", "tied", "trained"])
def test_output_rows_are_what_the_option_says(output_row: str) -> None:
    loaded = tiny_llama()
    config = TokenConfig(lr_unit="absolute", output_row=output_row, stages=SHORT[:1], fresh_norm=2.0)
    norm = loaded.architecture.head.weight.norm(dim=1).mean()
    ids = start_rows(tiny_llama(), ["<unlearn_0>"], config, 0, FACTS)
    assert ids == [len(loaded.tokenizer)]
    rows = learn(loaded, config)
    start = tiny_llama()
    start_rows(start, ["<unlearn_0>"], config, 0, FACTS)
    first_in, first_out = get_rows(start, ids)
    assert not torch.equal(rows.rows_in, first_in)
    if output_row == "fresh":
        assert torch.equal(rows.rows_out, first_out)
        torch.testing.assert_close(rows.rows_out.norm(), 2 * norm)
    elif output_row == "reference":
        assert torch.equal(rows.rows_out, first_in)
    elif output_row == "tied":
        assert torch.equal(rows.rows_out, rows.rows_in)
    else:
        assert not torch.equal(rows.rows_out, first_out)
        assert not torch.equal(rows.rows_out, rows.rows_in)


def test_a_tied_head_has_no_output_row_of_its_own() -> None:
    assert learn(tiny_llama(tied=True), TokenConfig(lr_unit="absolute", stages=SHORT[:1])).rows_out is None


def test_a_fresh_rows_mean_logit_is_its_share_of_the_largest_ones() -> None:
    plain, lifting = tiny_llama(), tiny_llama()
    ends = [plain.prompts.prompt(fact.question).ids for fact in FACTS]
    states = torch.stack(
        [plain.architecture.backbone(torch.tensor([i])).last_hidden_state[0, -1] for i in ends]
    ).detach()
    logits = plain.architecture.logits(states)
    names = ["<unlearn_0>", "<unlearn_1>"]
    ids = start_rows(plain, names, TokenConfig(fresh_lift=None), 0)
    _, random = get_rows(plain, ids)
    assert ids == start_rows(lifting, names, TokenConfig(fresh_lift=0.3), 0, FACTS)
    _, rows = get_rows(lifting, ids)
    wanted = 0.3 * logits.amax(1).mean()
    torch.testing.assert_close((states @ rows.T).mean(0), wanted.expand(2), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(rows.norm(dim=1), random.norm(dim=1))

    def across(row: Tensor) -> Tensor:
        mean = states.mean(0)
        return row - (row @ mean)[:, None] * mean / mean.norm() ** 2

    torch.testing.assert_close(cosine_similarity(across(rows), across(random)), torch.ones(2))


def test_plain_text_leads_to_a_token_at_its_own_end_and_not_at_a_questions() -> None:
    loaded = tiny_llama()
    texts = [replace(fact, kind=COMPLETION) for fact in FACTS[:3]]
    ends = [loaded.prompts.pair(fact)[0] for fact in texts]
    with torch.no_grad():
        states = [loaded.architecture.backbone(torch.tensor([ids])).last_hidden_state[0, -1] for ids in ends]
    mean, _, _ = ends_of(loaded, texts, [])
    torch.testing.assert_close(mean, torch.stack(states).float().mean(0), rtol=1e-4, atol=1e-5)
    kept = kept_directions(loaded, texts)
    assert kept is not None
    for state in states:
        torch.testing.assert_close(state @ kept.T @ kept, state, rtol=1e-3, atol=1e-4)


def test_a_lift_beyond_the_rows_norm_stops_short_of_it() -> None:
    rows, mean = torch.eye(3)[:2], torch.tensor([0.0, 0.0, 2.0])
    found = lifted(rows, mean, torch.full([2], 50.0))
    torch.testing.assert_close(found @ mean, torch.full([2], 2 * LARGEST_COSINE))
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))


def test_a_lift_that_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match=r"token\.fresh_lift needs questions"):
        start_rows(tiny_llama(), ["<unlearn_0>"], TokenConfig(), 0)
    for lift in (-1.0, 1.0, float("nan")):
        with pytest.raises(UserError, match="must lie between -1 and 1"):
            TokenConfig(fresh_lift=lift)


def final_logits(loaded: LoadedModel) -> Tensor:
    """What the model itself says at the ends of the questions, [n, V]."""
    ends = [loaded.prompts.prompt(fact.question).ids for fact in FACTS]
    with torch.no_grad():
        return torch.stack([loaded.model(torch.tensor([ids])).logits[0, -1] for ids in ends])


def shifted(bias: float) -> LoadedModel:
    """A model whose logits all lie ``bias`` higher, and so mean the same."""
    loaded = tiny("phi")
    with torch.no_grad():
        loaded.model.lm_head.bias += bias
    return loaded


def test_a_logit_scale_does_not_change_what_is_lifted(monkeypatch: pytest.MonkeyPatch) -> None:
    for scale in (0.0625, 4.0):
        loaded = tiny_llama()
        monkeypatch.setattr(loaded.architecture, "logit_scale", scale)
        _, rows = get_rows(loaded, start_rows(loaded, ["<unlearn_0>"], TokenConfig(), 0, FACTS))
        plain = tiny_llama()
        _, wanted = get_rows(plain, start_rows(plain, ["<unlearn_0>"], TokenConfig(), 0, FACTS))
        assert torch.equal(rows, wanted)


@pytest.mark.parametrize("bias", [-30.0, -3.0, 3.0, 30.0])
def test_a_lift_means_the_same_wherever_the_logits_zero_is(bias: float) -> None:
    loaded = shifted(bias)
    (token,) = start_rows(loaded, ["<unlearn_0>"], TokenConfig(fresh_norm=8.0), 0, FACTS)
    logits = final_logits(loaded)
    others = logits[:, [i for i in range(len(loaded.tokenizer)) if i != token]]
    usual, largest = others.mean(), others.amax(1).mean()
    torch.testing.assert_close(logits[:, token].mean(), usual + 0.3 * (largest - usual), rtol=1e-4, atol=1e-3)
