"""Chat templates as models ship them, each with the trait that it is here for: what is asked, and what an answer ends with."""

from __future__ import annotations

import re

import pytest

from tests.helpers.chat_templates import DATE, SHIPPED, shipped
from tests.helpers.tiny_models import tiny_tokenizer
from unierase_cli.contracts import UserError
from unierase_cli.models.prompts import PromptFormatter


@pytest.mark.parametrize("name", SHIPPED)
def test_a_question_and_its_answer_are_written_as_the_model_was_taught(name: str) -> None:
    tokenizer = shipped(name)
    formatter = PromptFormatter(tokenizer, date=DATE)
    prompt = formatter.prompt("Who?")
    assert prompt.text == SHIPPED[name].prompt
    assert prompt.text[slice(*prompt.question_span)] == "Who?"
    assert tokenizer.decode(prompt.ids) == prompt.text
    assert prompt.ids == tokenizer(prompt.text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(formatter.answer_ids("Ada.")) == SHIPPED[name].answer
    assert {formatter.end_id, tokenizer.eos_token_id} <= set(formatter.stop_ids)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_system_text_is_put_where_the_template_wants_it_or_refused(name: str) -> None:
    wanted = SHIPPED[name].system
    if isinstance(wanted, str):
        assert PromptFormatter(shipped(name), date=DATE, system="Be kind.").prompt("Who?").text == wanted
        return
    with pytest.raises(UserError, match=re.escape(SHIPPED[name].reason)) as raised:
        PromptFormatter(shipped(name), system="Be kind.")
    assert "model.system=null" in raised.value.hint


@pytest.mark.parametrize("name", ["gemma 2", "qwen3", "llama 3.1"])
def test_a_tokenizer_that_adds_a_bos_of_its_own_does_not_make_two(name: str) -> None:
    formatter = PromptFormatter(shipped(name, adds_bos=True), date=DATE)
    for ids in (formatter.prompt("Who?").ids, formatter.render_prefixed("Who?", "The").ids):
        assert ids.count(formatter.tokenizer.bos_token_id) == 1
        assert ids[0] == formatter.tokenizer.bos_token_id


@pytest.mark.parametrize("name", ["llama 3.1", "mistral small"])
def test_a_prompt_is_the_same_on_every_day(name: str) -> None:
    one, other = (PromptFormatter(shipped(name), date=date).prompt("Who?").text for date in (DATE, "01 Jan 2025"))
    assert other == one.replace(DATE, "01 Jan 2025").replace("2024-07-26", "2025-01-01")
    assert other != one


def test_a_form_of_the_date_that_is_never_written_out_gets_the_date_as_it_is_set() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = (
        "{% set form = '%d/' + '%m' %}{% for m in messages %}<|user|>{{ strftime_now(form) }} {{ m['content'] }}{% endfor %}"
        "<|assistant|>"
    )
    assert PromptFormatter(tokenizer, date=DATE).prompt("Who?").text == f"<|user|>{DATE} Who?<|assistant|>"
