"""The smallest alpha that keeps the first tokens of held-out questions: what is tried, what is left, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.helpers.closed_form import CONFIG, KEPT, LAYERS, context, step
from tests.helpers.tiny_models import tiny_llama
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.edit import EditConfig
from unierase_cli.config.sections.model import MethodConfig
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.editing import penalty
from unierase_cli.editing.penalty import FACTOR, TRIES, first_tokens, with_least_alpha
from unierase_cli.editing.state import EditState
from unierase_cli.methods import alphaedit, unierase

RULE = replace(CONFIG, preserve="ridge", alpha=1.0, keep_first=1.0)


def kept(monkeypatch: pytest.MonkeyPatch, *shares: float) -> list[int]:
    """First tokens of ten questions of which these shares stay, one share after each writing."""
    left, calls = iter(shares), []

    def look(_loaded: object, _prompts: object) -> torch.Tensor:
        calls.append(1)
        same = 10 if len(calls) == 1 else round(10 * next(left))
        return torch.tensor([0] * same + [1] * (10 - same))

    monkeypatch.setattr(penalty, "first_tokens", look)
    return calls


def test_the_first_alpha_that_keeps_enough_is_written_and_the_others_are_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    kept(monkeypatch, 0.5, 0.8, 0.9)
    written: list[float] = []
    config = replace(RULE, keep_first=0.9)
    result, trials = with_least_alpha(
        tiny_llama(), config, [[5]], lambda c: written.append(c.alpha) or c.alpha, lambda: written.append(-1.0)
    )
    assert written == [1.0, -1.0, FACTOR, -1.0, FACTOR**2]
    assert result == FACTOR**2
    assert [(trial.alpha, trial.kept) for trial in trials] == [(1.0, 0.5), (FACTOR, 0.8), (FACTOR**2, 0.9)]


def test_where_no_alpha_keeps_enough_the_smallest_of_the_best_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    kept(monkeypatch, 0.5, 0.8, 0.8, 0.7, 0.6)
    result, trials = with_least_alpha(tiny_llama(), RULE, [[5]], lambda c: c.alpha, lambda: None)
    assert len(trials) == TRIES
    assert result == FACTOR


def test_first_tokens_are_those_of_each_prompt_by_itself() -> None:
    loaded = tiny_llama()
    prompts = [[5, 6, 7], [8, 9], [10, 11, 12, 13, 14]]
    with torch.no_grad():
        wanted = [int(loaded.model(torch.tensor([prompt])).logits[0, -1].argmax()) for prompt in prompts]
    assert first_tokens(loaded, prompts).tolist() == wanted


def test_an_edit_with_a_chosen_alpha_is_the_edit_with_that_alpha(monkeypatch: pytest.MonkeyPatch) -> None:
    kept(monkeypatch, 0.5, 1.0)
    chosen, direct = tiny_llama(), tiny_llama()
    watched = [chosen.prompts.prompt(fact.question).ids for fact in KEPT]
    patch, state = unierase.erase(chosen, step(), EditState(), replace(context(chosen, RULE), watched=watched))
    plain = replace(RULE, keep_first=None, alpha=FACTOR)
    other, other_state = unierase.erase(direct, step(), EditState(), context(direct, plain))
    assert patch.info["alphas"] == [{"alpha": 1.0, "kept": 0.5}, {"alpha": FACTOR, "kept": 1.0}]
    assert "alphas" not in other.info
    for layer in LAYERS:
        assert torch.equal(chosen.architecture.weight(layer), direct.architecture.weight(layer))
        assert torch.equal(patch.factors[layer].dense(), other.factors[layer].dense())
        one, two = state.layers[layer], other_state.layers[layer]
        assert one.lambda_ == two.lambda_
        assert one.whitened is not None
        assert two.whitened is not None
        assert torch.equal(one.whitened, two.whitened)


@pytest.mark.parametrize(
    "settings", [{"keep_first": 0.0}, {"keep_first": 1.5}, {"keep_first": 0.9, "preserve": "null_space"},
                 {"keep_first": 0.9, "one_by_one": True}, {"keep_first": 0.9, "alpha": 0.0}],
)  # fmt: skip
def test_a_rule_without_a_meaning_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(UserError, match="edit.keep_first") as caught:
        EditConfig(**settings)  # type: ignore[arg-type]
    assert caught.value.hint


def test_an_alpha_that_keeps_too_few_is_used_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    kept(monkeypatch, 0.5, 0.6, 0.6, 0.6, 0.6)
    loaded, reporter = tiny_llama(), SilentReporter()
    given = replace(context(loaded, RULE), watched=[loaded.prompts.prompt(KEPT[0].question).ids], reporter=reporter)
    unierase.erase(loaded, step(), EditState(), given)
    assert any("no alpha keeps edit.keep_first=1" in text and "keeps 0.60" in text for text in reporter.warnings)


def test_a_null_space_has_no_alpha_to_choose() -> None:
    with pytest.raises(UserError, match="null space of method=alphaedit has none"):
        alphaedit.check(Experiment(method=MethodConfig("alphaedit"), edit=EditConfig(keep_first=0.9)), [step()], [])
