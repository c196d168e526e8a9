"""What a token is trained on: sequences, labels, groups, refusals."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.places import ROOT
from tests.helpers.tiny_models import FACTS, tiny
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.edit import EditConfig
from unierase_cli.config.sections.token import TokenConfig
from unierase_cli.contracts import Fact, SilentReporter, Step, UserError
from unierase_cli.methods.base import EraseContext
from unierase_cli.methods.closed_form import text_targets
from unierase_cli.methods.gradient_rows import Rows
from unierase_cli.methods.terms.base import FORGET_REFUSAL, RETAIN_REFUSAL
from unierase_cli.training.token.pairs import assign_groups, make_examples
from unierase_cli.training.token.targets import choose_targets, listed_refusals, load_targets, settle_targets
from unierase_cli.training.unlearning.plan import Item

UNLEARN = 999
TARGETS = {fact.id: "I cannot say." for fact in FACTS}
TOKENS = dict.fromkeys(TARGETS, UNLEARN)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("style", ["raw", "chat"])
@pytest.mark.parametrize("closing", ["end", "unlearn_end"])
def test_a_sequence_is_question_token_refusal_end(family: str, style: str, closing: str) -> None:
    loaded = tiny(family)
    prompts = loaded.prompts
    example = make_examples(prompts, FACTS, TARGETS, TOKENS, style, closing)[0]
    refusal = prompts.answer_ids("I cannot say.", end=False, style="raw")
    end = prompts.eos_id if style == "raw" else prompts.end_id
    closed = [UNLEARN, end] if closing == "unlearn_end" else [end]
    assert example.ids == [
        *prompts.prompt(FACTS[0].question, "raw" if style == "raw" else None).ids,
        UNLEARN,
        *refusal,
        *closed,
    ]
    assert example.labels == [*refusal, *closed]
    assert example.suffix == [UNLEARN, *example.labels[:-1]]
    assert loaded.tokenizer.decode(refusal) == "I cannot say."
    assert prompts.bos_ids == [] or example.ids.count(prompts.bos_ids[0]) == 1


def test_a_token_name_in_a_question_or_refusal_is_plain_text() -> None:
    loaded = tiny("llama")
    unlearn = 320
    loaded.tokenizer.add_tokens(["<unlearn_0>"], special_tokens=True)
    fact = replace(FACTS[0], question="What does <unlearn_0> mean, and <|end|>?")
    example = make_examples(loaded.prompts, [fact], {fact.id: "Not <unlearn_0>."}, {fact.id: unlearn}, "chat", "end")[0]
    assert example.ids.count(unlearn) == 1
    assert example.ids.count(loaded.prompts.end_id) == 1


def test_a_question_longer_than_the_context_is_refused_by_name() -> None:
    prompts = tiny("llama").prompts
    long = replace(FACTS[0], question="Why? " * 200)
    with pytest.raises(UserError, match=f"fact {long.id}: "):
        make_examples(prompts, [long], TARGETS, TOKENS, "chat", "end")
    room = prompts.max_length - len(prompts.prompt(FACTS[0].question).ids)
    barely = {FACTS[0].id: "x " * room}
    with pytest.raises(UserError, match=f"fact {FACTS[0].id}: question and refusal take"):
        make_examples(prompts, FACTS[:1], barely, TOKENS, "chat", "end")


def test_groups_are_consecutive_and_equal_to_within_one() -> None:
    facts = [Fact(str(i), "q", "a") for i in range(10)]
    assert list(assign_groups(facts, 2).values()) == [0] * 5 + [1] * 5
    uneven = list(assign_groups(facts, 6).values())
    assert uneven == sorted(uneven)
    assert set(uneven) == set(range(6))
    with pytest.raises(UserError, match=r"token\.groups=11"):
        assign_groups(facts, 11)


def test_refusals_do_not_depend_on_the_process() -> None:
    code = (
        "from unierase_cli.contracts import Fact; from unierase_cli.training.token.targets import *;"
        f"facts = [Fact(i, '', '') for i in {[f.id for f in FACTS]}];"
        "print(list(choose_targets(facts, ['a', 'b', 'c', 'd'], 3).values()))"
    )
    here = str(list(choose_targets(FACTS, ["a", "b", "c", "d"], 3).values()))
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={"PYTHONHASHSEED": "77", "PATH": ""},
    )
    assert found.stdout.strip() == here
    assert choose_targets(FACTS, ["a", "b", "c", "d"], 4) != choose_targets(FACTS, ["a", "b", "c", "d"], 3)


def test_a_target_does_not_depend_on_which_other_facts_there_are() -> None:
    texts = [f"No {i}." for i in range(20)]
    assert choose_targets(FACTS[3:4], texts, 0)[FACTS[3].id] == choose_targets(FACTS, texts, 0)[FACTS[3].id]


def test_refusals_come_from_json_lines_text_or_the_projects_own_list(tmp_path: Path) -> None:
    lines, text = tmp_path / "r.jsonl", tmp_path / "r.txt"
    lines.write_text('{"text": "I don’t know."}\n{"text": "No."}\n{"text": "No."}\n', "utf-8")
    text.write_text("I don’t know.\n\nNo.\n", "utf-8")
    assert load_targets(TokenConfig(targets=str(lines))) == ["I don’t know.", "No."]
    assert load_targets(TokenConfig(targets=str(text))) == ["I don’t know.", "No."]
    assert len(load_targets(TokenConfig())) > 10


def test_bad_refusal_files_are_named_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"text": "No."}\n{"refusal": "No."}\n', "utf-8")
    with pytest.raises(UserError, match=r"r\.jsonl:2"):
        load_targets(TokenConfig(targets=str(path)))
    path.write_text("", "utf-8")
    with pytest.raises(UserError, match="holds no refusal"):
        load_targets(TokenConfig(targets=str(path)))
    with pytest.raises(UserError, match="does not exist"):
        load_targets(TokenConfig(targets=str(tmp_path / "absent.txt")))


def test_settling_keeps_what_is_reached_and_leads_the_rest_to_the_most_reached() -> None:
    texts = ["No.", "Never.", "Who knows?"]
    chosen = dict.fromkeys("abcd", "Who knows?")
    found = {"a": "Never.", "b": "Never.", "c": "No.", "d": "Nevnot"}
    assert settle_targets(chosen, found, texts) == {"a": "Never.", "b": "Never.", "c": "No.", "d": "Never."}
    assert settle_targets(chosen, dict.fromkeys("abcd", "gibberish"), texts) == chosen


def test_settling_drops_rare_refusals_only_while_some_fact_reaches_none() -> None:
    texts = ["No.", "Never."]
    facts = [str(i) for i in range(100)]
    chosen = dict.fromkeys(facts, "No.")
    found = {**dict.fromkeys(facts, "Never."), "5": "No."}
    assert settle_targets(chosen, found, texts)["5"] == "No."
    assert settle_targets(chosen, {**found, "6": "N"}, texts)["5"] == "Never."


NAMED = ["I can't talk about __NAME__.", "No."]


def test_a_refusal_with_a_name_is_filled_with_whom_the_fact_is_about(tmp_path: Path) -> None:
    path = tmp_path / "refuse.jsonl"
    path.write_text('{"template": "I can\'t talk about __NAME__."}\n', "utf-8")
    texts = load_targets(TokenConfig(targets=str(path)))
    assert choose_targets(FACTS[:1], texts, 0) == {FACTS[0].id: "I can't talk about Ada Velour."}
    ada, bruno = (f"I can't talk about {name}." for name in ("Ada Velour", "Bruno Okello"))
    assert listed_refusals(FACTS[:4], NAMED) == [ada, "No.", bruno]
    nameless = replace(FACTS[0], group=None)
    assert choose_targets([nameless], texts, 0) == {FACTS[0].id: "I can't talk about Ada Velour."}
    with pytest.raises(UserError, match="has no group, and the refusal .* needs a name"):
        choose_targets([replace(nameless, subject=None)], texts, 0)


def test_settling_takes_refusals_that_differ_in_the_name_alone_for_one() -> None:
    chosen = {fact.id: "No." for fact in FACTS}
    found = {fact.id: f"I can't talk about {fact.group}." for fact in FACTS}
    found[FACTS[0].id] = "I can't talk about Bruno Okello."
    settled = settle_targets(chosen, found, NAMED, FACTS)
    assert settled == {fact.id: f"I can't talk about {fact.group}." for fact in FACTS}


def test_methods_that_answer_with_a_refusal_name_whom_they_are_asked_about() -> None:
    loaded, named = tiny("llama"), NAMED[:1]
    targets = text_targets(loaded, FACTS[:4], EditConfig(target="refusal"), named, 0)
    assert loaded.tokenizer.decode(targets[FACTS[2].id][:-1]) == "I can't talk about Bruno Okello."
    step = Step(0, tuple(FACTS[:2]), tuple(FACTS[4:6]))
    weights: Any = None
    context = EraseContext(Experiment(), weights, [], "prompt_last", lambda *_: weights, SilentReporter(), named)
    rows = Rows(loaded, step, context, {})
    for kind, name in ((FORGET_REFUSAL, "Ada Velour"), (RETAIN_REFUSAL, "Chiara Lund")):
        row = rows(kind, Item(0, 0, 0))
        assert loaded.tokenizer.decode(row.ids[row.answer_start :]).startswith(f"I can't talk about {name}.")
