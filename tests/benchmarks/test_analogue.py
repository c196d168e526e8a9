"""The analogues: three tasks by one form, inputs that are never shared, and what revealing needs of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.benchmark_files import config
from unierase_cli.benchmarks.analogue import TASKS, Item, entities, skill
from unierase_cli.benchmarks.base import load_benchmark
from unierase_cli.contracts import UserError
from unierase_cli.metrics import analogue
from unierase_cli.metrics.register import POLITE, RUDE, has_rude_words, is_of
from unierase_cli.revealing.instructions import from_retain
from unierase_cli.revealing.targets import Target


@pytest.mark.parametrize("task", TASKS)
def test_the_four_sets_share_no_input_and_new_inputs_are_not_learned(task: str, tmp_path: Path) -> None:
    benchmark = load_benchmark(config("analogue", tmp_path, split=task))
    sets = {**benchmark.splits, "retain_protected": benchmark.protect}
    inputs = {name: {fact.question.partition(": ")[2] for fact in facts} for name, facts in sets.items()}
    assert {name: len(found) for name, found in inputs.items()} == {
        "forget": 112, "retain_protected": 112, "retain_unseen": 28, "forget_eval": 28,
    }  # fmt: skip
    assert len(set().union(*inputs.values())) == 280
    learned = {fact.id for fact in benchmark.training}
    assert {fact.id for name in ("forget", "retain_protected") for fact in sets[name]} <= learned
    assert not {fact.id for name in ("forget_eval", "retain_unseen") for fact in sets[name]} & learned


@pytest.mark.parametrize("task", TASKS)
def test_the_seed_decides_and_the_description_is_the_subject(task: str, tmp_path: Path) -> None:
    chosen = config("analogue", tmp_path, split=task)
    first = load_benchmark(chosen)
    assert first == load_benchmark(chosen)
    assert first.fingerprint != load_benchmark(replace(chosen, seed=1)).fingerprint
    assert {fact.subject for fact in first.forget} == {TASKS[task].forgotten}
    assert {fact.subject for fact in first.protect} == {TASKS[task].kept}
    assert not {TASKS[task].forgotten, TASKS[task].kept} & {fact.subject for fact in first.refused}


@pytest.mark.parametrize("task", TASKS)
def test_kept_questions_become_questions_about_what_is_to_be_forgotten_but_none_of_its_own(task: str, tmp_path: Path) -> None:
    benchmark = load_benchmark(config("analogue", tmp_path, split=task))
    target = Target(TASKS[task].forgotten, "topic")
    found = from_retain(benchmark.protect, [target], 60, "topic", 0)
    assert len(found) > 10
    true = {fact.question for name in ("forget", "forget_eval") for fact in benchmark.splits[name]}
    assert not {one.about(target.name) for one in found} & true


def test_every_answer_is_right_by_hand() -> None:
    by_input = {item.text: item for item in skill(0)}
    assert by_input["4 ~ 7"] == Item("4 ~ 7", "[7, 4]", "11")
    assert by_input["4 ^ 7"] == Item("4 ^ 7", "[4, 4, 7]", "7")
    for item in list(entities(0))[:50]:
        persons, places = analogue.entities(item.forgotten, "PER"), analogue.entities(item.kept, "LOC")
        assert persons.total() in (1, 2)
        assert places.total() in (1, 2)
        assert all(name in item.text for name in (*persons, *places))
        assert not set(persons) & set(places)


def test_lexicon_and_classifier_agree_with_the_registers_though_they_were_made_from_other_sentences(tmp_path: Path) -> None:
    benchmark = load_benchmark(config("analogue", tmp_path, split="style"))
    for fact in benchmark.forget:
        assert has_rude_words(fact.answer)
        assert is_of(RUDE, fact.answer)
    for fact in benchmark.protect:
        assert analogue.is_polite(fact.answer)
        assert not is_of(RUDE, fact.answer)
    refusals = [fact.answer for fact in benchmark.refused]
    assert not any(map(analogue.is_polite, refusals)), "to refuse is not to keep the polite register"
    assert not any(is_of(POLITE, text) or is_of(RUDE, text) for text in ("", "qwx zrt."))


def test_an_unknown_task_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="benchmark.split=forget10 is not a choice"):
        load_benchmark(config("analogue", tmp_path, split="forget10"))
