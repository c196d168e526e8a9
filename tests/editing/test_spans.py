"""Where facts are edited: key tokens by character offsets, templates and their weights, keys averaged over them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.helpers.tiny_models import FACTS, tiny, tiny_llama
from unierase_cli.config.sections.edit import TemplateConfig
from unierase_cli.contracts import Fact, UserError
from unierase_cli.editing.keys import FactPasses, look_at_keys
from unierase_cli.editing.spans import key_index, make_requests, without_subject
from unierase_cli.editing.templates import Templates, choose_templates


@pytest.mark.parametrize(
    ("question", "subject"),
    [
        ("What does Ada Velour write?", "Ada Velour"),
        ("Ada Velour: who is it?", "Ada Velour"),
        ("What are the titles of Ada Velour's books?", "Ada Velour"),
        ("Please name Ada Velour", "Ada Velour"),
        ("Is “Zoë Ünal” known?", "Zoë Ünal"),
    ],
    ids=["middle", "start", "before 's", "end", "non-ascii"],
)
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_key_is_the_last_token_that_overlaps_the_subject(question: str, subject: str, family: str) -> None:
    formatter = tiny(family).prompts
    prompt = formatter.prompt(question)
    index = key_index(formatter, prompt, subject, "subject_last")
    end = prompt.text.index(question) + question.index(subject) + len(subject)
    first, last = prompt.offsets[index]
    assert first < end <= last
    assert prompt.offsets[index + 1][0] >= end or prompt.offsets[index + 1][1] > end


def test_the_key_index_is_what_encoding_up_to_the_subject_would_give() -> None:
    formatter = tiny("llama").prompts
    for fact in FACTS:
        assert fact.subject is not None
        prompt = formatter.prompt(fact.question)
        upto = prompt.text[: prompt.text.index(fact.subject) + len(fact.subject)]
        ids = formatter.tokenizer(upto, add_special_tokens=False)["input_ids"]
        assert key_index(formatter, prompt, fact.subject, "subject_last") == len(ids) - 1


def test_the_last_of_several_occurrences_in_the_question_counts_and_the_template_is_never_searched() -> None:
    formatter = tiny("llama").prompts
    prompt = formatter.prompt("Ada, or Ada once more?")
    index = key_index(formatter, prompt, "Ada", "subject_last")
    assert prompt.offsets[index][1] >= prompt.text.rindex("Ada") + 3 > prompt.offsets[index][0]
    with pytest.raises(UserError, match="subject 'assistant' is not in the question"):
        key_index(formatter, formatter.prompt("Who is it?"), "assistant", "subject_last")


def test_prompt_last_and_a_missing_subject_take_the_last_prompt_token() -> None:
    formatter = tiny("llama").prompts
    prompt = formatter.prompt(FACTS[0].question)
    assert key_index(formatter, prompt, FACTS[0].subject, "prompt_last") == len(prompt.ids) - 1
    assert key_index(formatter, prompt, None, "subject_last") == len(prompt.ids) - 1
    assert without_subject([FACTS[0], replace(FACTS[1], subject=None)]) == 1


def test_braces_and_control_tokens_in_a_question_are_plain_text() -> None:
    loaded = tiny_llama()
    fact = Fact("odd", "Is {} or <|end|> by Ada Velour?", "no", "Ada Velour")
    (request,) = make_requests(loaded.prompts, [fact], {"odd": [5]}, ["The {book}"], "subject_last")
    for prompt in request.prompts:
        assert loaded.prompts.end_id not in prompt.ids
        assert "our" in loaded.tokenizer.decode(prompt.ids[: prompt.key + 1])[-4:]


def test_the_drift_prompt_ends_at_its_key() -> None:
    loaded = tiny_llama()
    for position, text in (("subject_last", FACTS[0].subject), ("prompt_last", f"{FACTS[0].subject} is a")):
        (request,) = make_requests(loaded.prompts, FACTS[:1], {FACTS[0].id: [5]}, [], position)
        assert request.drift is not None
        assert request.drift.key == len(request.drift.ids) - 1
        assert loaded.tokenizer.decode(request.drift.ids, skip_special_tokens=True) == text


def test_half_of_the_weight_is_the_bare_prompts_and_the_prefixes_share_the_rest() -> None:
    assert Templates().weights == (1.0,)
    assert Templates(("a", "b", "c")).weights == pytest.approx((1 / 2, 1 / 6, 1 / 6, 1 / 6))


def test_sampled_prefixes_are_the_same_for_the_same_seed_and_fixed_ones_are_taken_as_they_are() -> None:
    loaded = tiny_llama()
    config = TemplateConfig(starts=["The", "Because"], length=8)
    first, again, other = (choose_templates(loaded, config, seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert [prefix.split()[0][:3] for prefix in first.prefixes] == ["The", "Bec"]
    assert choose_templates(loaded, TemplateConfig(fixed=["So"]), 0).prefixes == ("So",)


def test_keys_are_means_over_templates_whatever_the_batches() -> None:
    loaded = tiny_llama()
    templates = Templates(("The book is", "Because I am"))
    requests = make_requests(loaded.prompts, FACTS, {f.id: [5] for f in FACTS}, templates.prefixes, "subject_last")
    results = []
    for tokens in (1, 60, 10_000):
        passes = FactPasses(loaded.architecture, requests, templates.weights, pad_id=0, batch_tokens=tokens)
        keys, outputs = passes.keys([1], outputs_of=[2])
        results.append((keys[1], outputs[2]))
    for keys, outputs in results[1:]:
        assert torch.allclose(keys, results[0][0], atol=1e-5)
        assert torch.allclose(outputs, results[0][1], atol=1e-5)
    one = look_at_keys(loaded.architecture, requests[3].prompts, keys_of=[1], pad_id=0, batch_tokens=1).keys[1]
    assert torch.allclose(results[0][0][:, 3], one[:, 0] / 2 + one[:, 1] / 4 + one[:, 2] / 4, atol=1e-6)
