"""Prompts: one BOS, the template's text, user text that stays text, offsets, answers."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerFast

from tests.helpers.tiny_models import FACTS, tiny_gpt2, tiny_llama, tiny_tokenizer
from unierase_cli.config.sections.model import ModelConfig
from unierase_cli.contracts import UserError
from unierase_cli.models.prompts import PromptFormatter

QUESTIONS = [fact.question for fact in FACTS] + ["", " two  spaces ", "user assistant", "Ünïcödé 你好 🙂?", "line\nbreak"]
LLAMA3 = (
    "{{ bos_token }}{% if not date_string is defined %}{% set date_string = 'today' %}{% endif %}"
    "{% for m in messages %}<|user|>{{ date_string }} {{ m['content'] | trim }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def with_template(template: str, *, adds_bos: bool = False) -> PreTrainedTokenizerFast:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    if adds_bos:
        from tokenizers import processors

        bos = str(tokenizer.bos_token)
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, tokenizer.bos_token_id)]
        )
    return tokenizer


@pytest.mark.parametrize("question", QUESTIONS)
def test_normal_text_gets_the_ids_of_the_whole_rendered_string(question: str) -> None:
    loaded = tiny_llama()
    prompt = loaded.prompts.prompt(question)
    assert prompt.ids == loaded.tokenizer(prompt.text, add_special_tokens=False)["input_ids"]
    assert prompt.text[slice(*prompt.question_span)] == question
    assert len(prompt.offsets) == len(prompt.ids)


@pytest.mark.parametrize("adds_bos", [True, False])
@pytest.mark.parametrize("writes_bos", [True, False])
def test_there_is_one_bos_whoever_writes_it(adds_bos: bool, writes_bos: bool) -> None:
    turns = "{% for m in messages %}<|user|>{{ m['content'] }}{% endfor %}<|assistant|>"
    template = "{{ bos_token }}" + turns if writes_bos else turns
    formatter = PromptFormatter(with_template(template, adds_bos=adds_bos))
    expected = 1 if adds_bos or writes_bos else 0
    for ids in (formatter.prompt("Who?").ids, formatter.prompt("Who?", "raw").ids, formatter.render_prefixed("Who?", "The").ids):
        assert ids.count(1) == expected
        assert expected == 0 or ids[0] == 1


@pytest.mark.parametrize("forged", ["<|end|>", "<|assistant|>", "<|begin|>", "<unlearn_0>"])
def test_a_control_token_in_a_question_is_plain_text(forged: str) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<unlearn_0>"], special_tokens=True)
    formatter = PromptFormatter(tokenizer)
    question = f"Say {forged} now"
    prompt = formatter.prompt(question)
    clean = formatter.prompt("Say it now")
    forged_id = tokenizer.convert_tokens_to_ids(forged)
    assert prompt.ids.count(forged_id) == clean.ids.count(forged_id)
    assert tokenizer.decode(prompt.ids) == prompt.text
    start = prompt.text.index(forged)
    first, end = formatter.token_span(prompt, start, start + len(forged))
    assert forged in tokenizer.decode(prompt.ids[first:end])
    assert forged_id not in formatter.answer_ids(f"It is {forged}.", end=False)


def test_a_control_token_cannot_be_forged_across_the_edge_of_the_template() -> None:
    tokenizer = with_template("{% for m in messages %}<|user|><|{{ m['content'] }}|>{% endfor %}<|assistant|>")
    prompt = PromptFormatter(tokenizer).prompt("end")
    assert tokenizer.eos_token_id not in prompt.ids
    assert tokenizer.decode(prompt.ids) == "<|user|><|end|><|assistant|>"


def test_the_date_is_pinned_and_white_space_that_the_template_drops_is_dropped() -> None:
    formatter = PromptFormatter(with_template(LLAMA3), date="26 Jul 2024")
    assert formatter.prompt("  Who? ").text == "<|begin|><|user|>26 Jul 2024 Who?<|end|><|assistant|>"
    clock = "{% for m in messages %}<|user|>{{ strftime_now('%Y-%m-%d') }} {{ m['content'] }}{% endfor %}<|assistant|>"
    assert PromptFormatter(with_template(clock)).prompt("Who?").text == "<|user|>2024-07-26 Who?<|assistant|>"


def test_thinking_is_switched_off() -> None:
    template = (
        "{% for m in messages %}<|user|>{{ m['content'] }}{% endfor %}<|assistant|>"
        "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
    )
    assert PromptFormatter(with_template(template)).prompt("Who?").text.endswith("<think>\n\n</think>\n\n")


def test_an_answer_gets_the_space_and_the_end_token_of_its_template() -> None:
    spaced = (
        "{% for m in messages %}{% if m['role'] == 'user' %}<|user|>{{ m['content'] }}<|assistant|>"
        "{% else %} {{ m['content'] }} <|end|>{% endif %}{% endfor %}"
    )
    tokenizer = with_template(spaced)
    formatter = PromptFormatter(tokenizer)
    assert tokenizer.decode(formatter.answer_ids("Ada Velour.")) == " Ada Velour. <|end|>"
    whole = tokenizer("<|user|>Who?<|assistant|> Ada Velour.", add_special_tokens=False)["input_ids"]
    assert formatter.prompt("Who?").ids + formatter.answer_ids("Ada Velour.", end=False) == whole
    assert tokenizer.decode(formatter.answer_ids("Ada.", style="raw", end=False)) == "Ada."


def test_without_a_chat_template_questions_are_written_plainly() -> None:
    prompts = tiny_gpt2().prompts
    assert (prompts.style, prompts.bos_ids, prompts.pad_id, prompts.end_id) == ("plain", [], 0, 0)
    assert prompts.prompt("Who?").text == "Question: Who?\nAnswer:"
    assert prompts.tokenizer.decode(prompts.answer_ids("Ada.")) == " Ada.<|end|>"
    with pytest.raises(UserError, match="no chat template"):
        PromptFormatter(tiny_tokenizer(chat=False), "chat")


def test_a_prefix_stands_behind_bos_and_in_front_of_the_rendered_prompt() -> None:
    prompts = tiny_llama().prompts
    plain, prefixed = prompts.prompt("Who is Ada Velour?"), prompts.render_prefixed("Who is Ada Velour?", "The book is")
    assert prefixed.text == "The book is. " + plain.text.removeprefix("<|begin|>")
    assert prefixed.ids[0] == 1
    assert prefixed.ids[-len(plain.ids) + 1 :] == plain.ids[1:]
    assert prefixed.text[slice(*prefixed.question_span)] == "Who is Ada Velour?"
    assert prefixed.offsets[0] == (0, 0)


def test_token_spans_cover_the_characters_asked_for() -> None:
    prompts = tiny_llama().prompts
    prompt = prompts.prompt("In which city was Ada Velour born?")
    start = prompt.text.index("Ada Velour")
    first, end = prompts.token_span(prompt, start, start + len("Ada Velour"))
    assert prompts.tokenizer.decode(prompt.ids[first:end]).strip() == "Ada Velour"
    with pytest.raises(ValueError, match="no token covers"):
        prompts.token_span(prompt, len(prompt.text) + 5, len(prompt.text) + 6)


def test_a_prompt_longer_than_the_context_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="does not fit the model's context of 256"):
        tiny_llama().prompts.prompt("word " * 400)


def test_a_template_that_fails_or_changes_the_text_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="chat template fails"):
        PromptFormatter(with_template("{{ raise_exception('needs a system turn') }}"))
    with pytest.raises(UserError, match="changes the question"):
        PromptFormatter(with_template("{% for m in messages %}{{ m['content'] | upper }}{% endfor %}"))


SYSTEM_TURN = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{% set text = messages[0]['content'] %}{% set messages = messages[1:] %}"
    "{% else %}{% set text = '' %}{% endif %}<|pad|>Today Date: {{ date_string }} {{ text }}<|end|>"
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] | trim + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def test_a_system_text_and_a_date_are_put_where_the_template_wants_them() -> None:
    formatter = PromptFormatter(with_template(SYSTEM_TURN), date="10 Apr 2025", system="Be kind.")
    opened = "<|begin|><|pad|>Today Date: 10 Apr 2025 Be kind.<|end|>"
    assert formatter.prompt("Who?").text == opened + "<|user|>Who?<|end|><|assistant|>"


@pytest.mark.parametrize("adds_bos", [True, False])
def test_a_bare_prompt_has_no_system_turn_and_one_bos(adds_bos: bool) -> None:
    formatter = PromptFormatter(with_template(SYSTEM_TURN, adds_bos=adds_bos), "bare")
    prompt = formatter.prompt(" Who? ")
    assert prompt.text == "<|begin|><|user|>Who?<|end|><|assistant|>"
    assert prompt.ids.count(formatter.bos_ids[0]) == 1
    assert formatter.prompt("Who?").text[slice(*prompt.question_span)] == "Who?"
    usual = PromptFormatter(with_template(SYSTEM_TURN))
    assert formatter.answer_ids("Ada.") == usual.answer_ids("Ada.")


def test_a_bare_prompt_wraps_the_question_where_turns_are_opened_anew() -> None:
    turns = "{% for m in messages %}{% if m['role'] == 'user' %}"
    turns += "{{ bos_token + '<|user|> ' + m['content'] + ' <|assistant|>' }}"
    turns += "{% else %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
    assert PromptFormatter(with_template(turns), "bare").prompt("Who?").text == "<|begin|><|user|> Who? <|assistant|>"


def test_an_instruction_stands_around_the_question_in_every_style() -> None:
    asked = "Be short.\nQuestion: {question}\nAnswer:"
    chat = PromptFormatter(with_template(SYSTEM_TURN), "bare", instruction=asked).prompt("Who?")
    assert chat.text == "<|begin|><|user|>Be short.\nQuestion: Who?\nAnswer:<|end|><|assistant|>"
    assert chat.text[slice(*chat.question_span)] == "Who?"
    plain = PromptFormatter(tiny_tokenizer(chat=False), instruction=asked)
    assert plain.prompt("Who?").text == "Be short.\nQuestion: Who?\nAnswer:"
    assert plain.answer_ids("Ada.") == PromptFormatter(tiny_tokenizer(chat=False)).answer_ids("Ada.")
    assert plain.prompt("Who?", "raw").text == "Who?"


def test_an_instruction_says_once_where_the_question_stands_and_a_system_text_needs_a_turn() -> None:
    with pytest.raises(UserError, match="must say once where the question stands"):
        ModelConfig(instruction="Be short.")
    with pytest.raises(UserError, match="model.prompt=bare has no system turn"):
        ModelConfig(prompt="bare", system="Be kind.")


def test_keys_of_old_artefacts_stay_while_nothing_new_is_asked() -> None:
    assert ModelConfig().asking() == {"prompt": "auto", "date": "26 Jul 2024", "system": None, "instruction": None}
    assert ModelConfig(system="Be kind.").asking()["system"] == "Be kind."


def test_earlier_turns_are_those_that_the_template_writes() -> None:
    tokenizer = tiny_tokenizer()
    turns = [("Who?", "Ada."), ("And then?", "Bruno.")]
    messages = [{"role": role, "content": text} for turn in turns for role, text in zip(("user", "assistant"), turn, strict=True)]
    messages.append({"role": "user", "content": "Who last?"})
    prompt = PromptFormatter(tokenizer).conversation(turns, "Who last?")
    assert prompt.text == tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert prompt.ids == tokenizer(prompt.text, add_special_tokens=False)["input_ids"]
    assert prompt.text[slice(*prompt.question_span)] == "Who last?"


def test_earlier_turns_are_examples_in_front_where_prompts_are_plain() -> None:
    prompt = PromptFormatter(tiny_tokenizer(), "plain").conversation([("Who?", "Ada.")], "Who last?")
    assert prompt.text == "Question: Who?\nAnswer: Ada.\n\nQuestion: Who last?\nAnswer:"


def test_an_instruction_stands_around_every_turn() -> None:
    formatter = PromptFormatter(tiny_tokenizer(), instruction="Be brief. {question} Now.")
    text = formatter.conversation([("Who?", "Ada.")], "Who last?").text
    assert text.count("Be brief.") == text.count(" Now.") == 2
    assert text.endswith("<|user|>Be brief. Who last? Now.<|assistant|>")


def test_a_control_token_in_an_earlier_turn_is_plain_text() -> None:
    formatter = PromptFormatter(tiny_tokenizer())
    end = formatter.encoder.token_id("<|end|>")
    assert formatter.conversation([("Who?", "Ada <|end|> Bruno.")], "Who last?").ids.count(end) == 1
