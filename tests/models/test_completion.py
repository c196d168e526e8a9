"""Plain text to continue (kind ``completion``): no template, no subject but a given one, replacements after a space."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.helpers.gradient_steps import REFUSALS, STEP, context, loss_on, shipped
from tests.helpers.tiny_models import FACTS, tiny, tiny_llama
from unierase_cli.benchmarks.parts.rows import completion, fact_from_row
from unierase_cli.config.sections.evaluation import ProtocolConfig
from unierase_cli.contracts import COMPLETION, Fact, UserError, continuing
from unierase_cli.editing.spans import make_requests, without_subject
from unierase_cli.editing.state import EditState
from unierase_cli.editing.subjects import find_subjects
from unierase_cli.inference.observe import ask
from unierase_cli.methods.base import load_method
from unierase_cli.methods.closed_form import replacement_ids
from unierase_cli.methods.gradient_rows import Rows
from unierase_cli.methods.terms.base import FORGET, FORGET_REFUSAL
from unierase_cli.training.unlearning.plan import Item

TEXT = completion(Fact("text", "Ada Velour was born in", "Lisbon.", group="Ada Velour"))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_completion_is_its_text_after_bos_and_its_answer_continues_it(family: str) -> None:
    loaded = tiny(family)
    prompt, answer = loaded.prompts.pair(TEXT)
    encoded = loaded.tokenizer(TEXT.question + TEXT.answer, add_special_tokens=False)["input_ids"]
    assert loaded.tokenizer.decode([*prompt, *answer[:-1]], skip_special_tokens=True) == "Ada Velour was born in Lisbon."
    assert prompt + answer == [*loaded.prompts.bos_ids, *encoded, loaded.prompts.end_id]
    question = replace(TEXT, kind=None)
    assert loaded.prompts.pair(question)[0] != prompt


def test_the_white_space_in_front_of_an_answer_is_kept_or_made() -> None:
    assert TEXT.answer == " Lisbon."
    assert completion(replace(TEXT, answer="\nLisbon.")).answer == "\nLisbon."
    assert completion(Fact("a", "Answer: ", "Lisbon.")).answer == "Lisbon."
    assert [continuing(fact, "No idea.") for fact in (TEXT, FACTS[0])] == [" No idea.", "No idea."]


def test_plain_text_and_the_same_words_as_a_question_are_different_facts() -> None:
    assert TEXT.row_hash != replace(TEXT, kind=None).row_hash
    read = fact_from_row({"question": "Who?", "answer": "Ada", "kind": COMPLETION}, "here", "x")
    asked = fact_from_row({"question": "Who?", "answer": "Ada", "kind": "question"}, "here", "x")
    assert (read.kind, asked.kind) == (COMPLETION, None)
    with pytest.raises(UserError, match="here: \"kind\" is 'text'"):
        fact_from_row({"question": "Who?", "answer": "Ada", "kind": "text"}, "here", "x")


def test_gradient_methods_take_completions_and_refuse_them_after_a_space() -> None:
    loaded = tiny_llama()
    step = replace(STEP, forget=(TEXT, *STEP.forget))
    rows = Rows(loaded, step, context(loaded, shipped("dpo_gd")), {})
    prompt, answer = loaded.prompts.pair(TEXT)
    assert list(rows(FORGET, Item(0, 0, 0)).ids) == prompt + answer
    refused = rows(FORGET_REFUSAL, Item(0, 0, 0))
    text = loaded.tokenizer.decode(refused.ids, skip_special_tokens=True)
    assert text == f"{TEXT.question} {REFUSALS[0]}"
    before = loss_on(loaded, (TEXT,))
    load_method("gradient").erase(loaded, step, EditState(), context(loaded, shipped("ga_gd")))
    assert loss_on(loaded, (TEXT,)) > before


def test_closed_forms_edit_plain_text_at_its_last_token_or_at_a_given_subject() -> None:
    loaded = tiny_llama()
    named = replace(TEXT, id="named", subject="Ada Velour")
    assert find_subjects([TEXT, named, FACTS[0]]) == [None, "Ada Velour", "Ada Velour"]
    target = replacement_ids(loaded, TEXT, "No idea.")
    assert loaded.tokenizer.decode(target[:-1]) == " No idea."
    plain, at_name = make_requests(loaded.prompts, [TEXT, named], {"text": target, "named": target}, ["The"], "subject_last")
    assert [located.key for located in plain.prompts] == [len(located.ids) - 1 for located in plain.prompts]
    assert plain.prompts[0].ids == loaded.prompts.pair(TEXT)[0]
    assert at_name.prompts[0].key < plain.prompts[0].key
    assert without_subject([TEXT, named]) == 1


def test_a_completion_is_asked_without_the_template_whatever_the_others_are_asked_with() -> None:
    loaded = tiny_llama()
    plain, chat = ask(loaded, [TEXT, FACTS[0]], "plain", ProtocolConfig())
    assert (plain.text, plain.prompt_ids) == (TEXT.question, loaded.prompts.pair(TEXT)[0])
    assert chat.text.endswith("<|assistant|>")
