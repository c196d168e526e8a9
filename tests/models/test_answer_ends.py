"""White space that a chat template writes between an answer and its end token: as the model was taught, in all stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from tests.helpers import tokenizer_kinds as kinds
from tests.helpers.chat_templates import SHIPPED, shipped
from tests.helpers.tiny_models import FACTS, tiny_llama, tiny_tokenizer
from unierase_cli.config.sections.evaluation import ProtocolConfig
from unierase_cli.contracts import Observation
from unierase_cli.inference import observe as asking
from unierase_cli.inference.generate import Generated
from unierase_cli.inference.logprobs import score_answers
from unierase_cli.inference.suites import answers_to, questions_of
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.prompts import PromptFormatter
from unierase_cli.probes.base import training_row
from unierase_cli.training.token.pairs import make_examples

GAPS = ["", " ", "\n", "\n\n"]
ANSWERS = ["Ada.", "In Lisbon", "Two lines.\nTwo.", "Say <|end|> now.", "Ünïcödé 你好 🙂.", "It costs 7 "]
# Llama 2's form: a space in front of an answer, white space and the end behind it.
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + GAP + eos_token }}{% endif %}{% endfor %}"
)
TEXTS = [f"{f.question} {f.answer} \n\n {f.answer}\n\n{f.question}\n{f.answer}\n" for f in FACTS]
KINDS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "byte-level BPE": tiny_tokenizer, "byte-level BPE that merges": partial(kinds.byte_level_that_merges, TEXTS),
    "SentencePiece": partial(kinds.metaspace, TEXTS, "always"),
    "SentencePiece, first word": partial(kinds.metaspace, TEXTS, "first"),
    "SentencePiece without a prefix": partial(kinds.metaspace, TEXTS, "never"), "Unigram": partial(kinds.unigram, TEXTS),
    "WordPiece": partial(kinds.word_piece, TEXTS), "WordLevel": partial(kinds.word_level, TEXTS),
}  # fmt: skip


def with_gap(tokenizer: PreTrainedTokenizerFast, gap: str) -> PreTrainedTokenizerFast:
    tokenizer.chat_template = TEMPLATE.replace("GAP", repr(gap))
    return tokenizer


def conversation(tokenizer: PreTrainedTokenizerFast, question: str, answer: str) -> list[int]:
    """The template's own ids of both turns, up to and including the end token behind the answer."""
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    ids = tokenizer.apply_chat_template(turns, tokenize=True, return_dict=True, enable_thinking=False)["input_ids"]
    stops = PromptFormatter(tokenizer).stop_ids
    ends = [place for place, token in enumerate(ids) if token in stops]
    # What a template writes behind its end of turn: one end of text more (Phi 4 mini), or white space.
    last = ends[-1] - (len(ends) > 1 and ends[-1] - ends[-2] == 1)
    return ids[: last + 1]


@pytest.mark.parametrize("gap", GAPS, ids=repr)
@pytest.mark.parametrize("kind", KINDS)
def test_prompt_and_answer_are_the_conversation_as_the_template_writes_it(kind: str, gap: str) -> None:
    tokenizer = with_gap(KINDS[kind](), gap)
    formatter = PromptFormatter(tokenizer)
    for answer in ANSWERS:
        found = formatter.prompt("Who?").ids + formatter.answer_ids(answer)
        if "<|end|>" in answer:  # the template's own ids would take the quoted token for the end
            assert found.count(formatter.end_id) == 1
            assert found[-1] == formatter.end_id
            continue
        assert found == conversation(tokenizer, "Who?", answer), answer


# Falcon's writes no end, and the stand-in for Mistral Small opens an answer in another way than it writes one.
@pytest.mark.parametrize("name", [name for name in SHIPPED if name not in ("falcon", "mistral small")])
def test_prompt_and_answer_are_the_conversation_for_every_shipped_template(name: str) -> None:
    tokenizer = shipped(name)
    formatter = PromptFormatter(tokenizer)
    prompt, answer = formatter.prompt("Who?").ids, formatter.answer_ids("Ada.")
    if name in ("deepseek r1", "llama 3.1"):  # the block of thoughts is closed, the date is pinned
        assert answer == conversation(tokenizer, "Who?", "Ada.")[-len(answer) :]
    else:
        assert prompt + answer == conversation(tokenizer, "Who?", "Ada.")


def test_white_space_that_makes_one_token_with_the_answers_last_character_belongs_to_the_answer() -> None:
    tokenizer = with_gap(kinds.byte_level_that_merges(TEXTS), "\n\n")
    answer = PromptFormatter(tokenizer).answer("Ada Velour was born in Lisbon.")
    assert tokenizer.decode(answer.ids[answer.own - 1 :]) == ".\n\n<|end|>"
    assert len(answer.ids) == answer.own + 1
    apart = PromptFormatter(with_gap(tiny_tokenizer(), "\n\n")).answer("Ada Velour was born in Lisbon.")
    assert len(apart.ids) == apart.own + 3


def test_a_quoted_end_token_stays_text_and_is_closed_as_every_answer_is() -> None:
    tokenizer = with_gap(tiny_tokenizer(), "\n")
    formatter = PromptFormatter(tokenizer)
    assert tokenizer.decode(formatter.answer_ids("Say <|end|> now.")) == " Say <|end|> now.\n<|end|>"
    assert formatter.answer_ids("Say <|end|> now.").count(formatter.end_id) == 1


def test_what_follows_the_unlearning_token_is_closed_as_an_answer_is() -> None:
    tokenizer = with_gap(tiny_tokenizer(), "\n")
    prompts = PromptFormatter(tokenizer)
    tokens, targets = {FACTS[0].id: 999}, {FACTS[0].id: "No idea."}

    def labels(style: str, closing: str) -> str:
        (example,) = make_examples(prompts, FACTS[:1], targets, tokens, style, closing)
        return str(tokenizer.decode([token for token in example.labels if token != 999]))

    assert labels("chat", "end") == "No idea.\n<|end|>"
    assert labels("raw", "end") == "No idea.<|end|>"
    assert labels("chat", "unlearn_end") == "No idea.<|end|>"


def spaced(gap: str = "\n") -> LoadedModel:
    loaded = tiny_llama()
    loaded.prompts = PromptFormatter(with_gap(loaded.tokenizer, gap), max_length=256)
    return loaded


def test_a_given_prefix_leaves_a_token_of_the_answer() -> None:
    loaded = spaced()
    (row,) = asking.ask(loaded, FACTS[:1], "answer_prefix", ProtocolConfig(prefix_tokens=50))
    assert len(row.prefix_ids) == row.answer.own - 1
    assert str(loaded.tokenizer.decode(row.prefix_ids)).strip() in FACTS[0].answer


def test_scores_count_white_space_and_end_in_the_loss_but_not_among_the_answers_own_tokens() -> None:
    loaded = spaced("\n\n")
    fact = replace(FACTS[0], wrong_answers=("No.",), paraphrased_answer="In Lisbon.")
    protocol = ProtocolConfig(max_new_tokens=1)
    asked = asking.ask(loaded, [fact], "plain", protocol)
    ((seen,),) = asking.observe(
        loaded, asked, [[0]], split="forget", variant="plain", protocol=protocol, wrong_answers=True
    )
    for kind, text in (("true", fact.answer), ("wrong", "No."), ("paraphrased", "In Lisbon.")):
        (score,) = seen.answers[kind]
        answer = loaded.prompts.answer(text)
        assert score.token_ids == answer.ids
        assert (score.length, score.spaces) == (answer.own, 2)
        (plain,) = score_answers(loaded, [(asked[0].prompt_ids, answer.ids)])
        assert score.average_loss == pytest.approx(plain.average_loss, abs=1e-5)
    assert Observation.from_json(seen.to_json()) == seen


def test_a_score_says_nothing_of_white_space_where_there_is_none() -> None:
    loaded = spaced("")
    asked = asking.ask(loaded, FACTS[:1], "plain", ProtocolConfig())
    ((seen,),) = asking.observe(
        loaded, asked, [[0]], split="forget", variant="plain", protocol=ProtocolConfig(max_new_tokens=1)
    )
    (score,) = seen.to_json()["answers"]["true"]
    assert "spaces" not in score
    assert Observation.from_json(seen.to_json()) == seen


@pytest.mark.parametrize(("stop", "text"), [("end", " Ada."), ("length", " Ada.\n")])
def test_white_space_in_front_of_the_end_token_is_no_part_of_what_was_said(
    monkeypatch: pytest.MonkeyPatch, stop: str, text: str
) -> None:
    loaded = spaced()
    ids = loaded.tokenizer(" Ada.\n", add_special_tokens=False)["input_ids"]
    for module in ("observe", "suites"):
        monkeypatch.setattr(f"unierase_cli.inference.{module}.generate", lambda *a, **k: [Generated(ids, stop)])
    asked = asking.ask(loaded, FACTS[:1], "generated", ProtocolConfig())
    ((seen,),) = asking.observe(loaded, asked, [[0]], split="forget", variant="generated", protocol=ProtocolConfig())
    (answer,) = answers_to(loaded, questions_of(loaded, [("a", "Who?")]), 8)
    assert seen.generated_ids == ids
    assert (seen.text, answer.output) == (text, text)


def test_a_model_that_was_taught_the_white_space_finds_its_answers_probable() -> None:
    """The probability of the end is that of the template's own sequence, not of one that it never saw."""
    loaded = spaced("\n")
    ids = conversation(loaded.tokenizer, FACTS[0].question, FACTS[0].answer)
    row = training_row(loaded, FACTS[0], ProtocolConfig())
    assert list(row.ids) == ids
    loaded.model.requires_grad_(True)
    learner = torch.optim.Adam(loaded.model.parameters(), lr=1e-2)
    batch = torch.tensor([ids])
    for _ in range(25):
        learner.zero_grad()
        loaded.model(input_ids=batch, labels=batch).loss.backward()
        learner.step()
    prompt = loaded.prompts.prompt(FACTS[0].question).ids
    (score,) = score_answers(loaded, [(prompt, loaded.prompts.answer_ids(FACTS[0].answer))])
    assert min(score.log_probs) > -0.2
