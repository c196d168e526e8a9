"""Targets, instructions, free text as questions, and the scores."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from unierase_cli.contracts import Fact, UserError
from unierase_cli.revealing.against_gold import against_gold
from unierase_cli.revealing.instructions import from_retain, seeds
from unierase_cli.revealing.parse import facts_in
from unierase_cli.revealing.score import agreement, combined, relevance, vendi_score
from unierase_cli.revealing.targets import Target, read_targets
from unierase_cli.revealing.writer import instruction_in
from unierase_cli.store.jsonl import write_jsonl

ADA = "Ada Velour"


def test_targets_are_lines_of_text_or_rows_with_a_kind(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text(f"\ufeff{ADA}\n\n  Bo   Lund \n", "utf-8")
    assert read_targets(str(tmp_path / "names.txt"), "person") == [Target(ADA, "person"), Target("Bo Lund", "person")]
    write_jsonl(tmp_path / "names.jsonl", [{"name": ADA}, {"name": "black coral", "kind": "topic"}])
    assert [t.kind for t in read_targets(str(tmp_path / "names.jsonl"), "person")] == ["person", "topic"]


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("a.txt", "\n \n", "has no target"),
        ("a.txt", f"{ADA}\nada  velour\n", "occurs twice"),
        ("a.txt", f"Bo\n{'x' * 201}\n", "a.txt:2"),
        ("a.txt", "Who is __NAME__\n", "not a name"),
        ("a.jsonl", '{"text": "Ada"}\n', "no text under the key `name`"),
        ("a.jsonl", '{"name": "Ada", "kind": "animal"}\n', "kind=animal is not a choice"),
        ("a.jsonl", '{"name": "Ada", "answer": "A poet."}\n', "is no target"),
    ],
)
def test_a_file_of_targets_that_is_none_is_refused(tmp_path: Path, name: str, text: str, complaint: str) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(UserError, match=complaint):
        read_targets(str(tmp_path / name), "person")


def test_a_missing_file_of_targets_is_refused(tmp_path: Path) -> None:
    for path, complaint in ((None, "needs the targets"), (str(tmp_path / "no.txt"), "does not exist")):
        with pytest.raises(UserError, match=complaint):
            read_targets(path, "person")


def test_every_kind_has_seeds_in_both_prompts_and_each_has_one_place_for_the_name_at_least() -> None:
    for kind in ("person", "topic"):
        found = seeds(kind, ["own", "raw"])
        assert {one.prompt for one in found} == {"own", "raw"}
        assert {one.form for one in found} == {"question", "list", "text"}
        assert all(ADA in one.about(ADA) and "__NAME__" not in one.about(ADA) for one in found)
        assert len(seeds(kind, ["own"])) < len(found)


def test_questions_about_others_are_asked_about_the_target_the_frequent_ones_first() -> None:
    facts = [
        Fact("1", "What does Cy Hill grow?", "Pears.", group="Cy Hill"),
        Fact("2", "Where is Cy Hill from?", "Rome.", "Cy Hill"),
        Fact("3", "Where is Di Moor from?", "Bergen.", group="Di Moor"),
        Fact("4", 'Who wrote "Tides" with Di Moor?', "Nobody.", group="Di Moor"),
        Fact("7", "Who wrote 'Ebb' with Di Moor?", "Nobody.", group="Di Moor"),
        Fact("5", "Who is the tallest?", "Nobody.", group="Di Moor"),
        Fact("6", "So where is Di Moor from?", "Bergen.", group="Di Moor"),
    ]
    found = from_retain(facts, [Target(ADA, "person")], 5, "person", 0)
    assert [one.text for one in found] == ["Where is __NAME__ from?", "What does __NAME__ grow?"]
    assert len(from_retain(facts, [], 1, "person", 0)) == 1
    with pytest.raises(UserError, match="mentions the target 'Cy Hill'"):
        from_retain(facts, [Target("Cy Hill", "person")], 5, "person", 0)
    # "Di Moo" is part of a word of these rows only.
    assert from_retain(facts, [Target("Di Moo", "person")], 5, "person", 0) == found


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        (f"Q: Where was {ADA} born?\nA: Lisbon.\n\nQ: What is her job?\nA: She writes.",
         [(f"Where was {ADA} born?", "Lisbon."), (f"What is {ADA}'s job?", "She writes.")]),
        (f"1. Where was {ADA} born? Lisbon.\n2) What did she write? Answer: Songs.",
         [(f"Where was {ADA} born?", "Lisbon."), (f"What did {ADA} write?", "Songs.")]),
        (f"**Question 1:** Who is {ADA}?\n**Answer:** A poet.", [(f"Who is {ADA}?", "A poet.")]),
        (f"1. Who is {ADA}?\n   A poet of Lisbon.", [(f"Who is {ADA}?", "A poet of Lisbon.")]),
        ("Q: Who is Bo?\nA: A cook.", []),
        (f"{ADA} was born in the year 1950 in Lisbon. She was raised there by two aunts.",
         [(f'Complete this sentence: "{ADA} was born ..."', f"{ADA} was born in the year 1950 in Lisbon."),
          (f'Complete this sentence: "{ADA} was raised ..."', f"{ADA} was raised there by two aunts.")]),
        ("A long text about nobody, which gives it to them.", []),
        ("", []),
    ],
)  # fmt: skip
def test_free_text_becomes_questions_with_claimed_answers(text: str, pairs: list[tuple[str, str]]) -> None:
    assert facts_in(text, ADA) == pairs


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("7. Where does [NAME] live?\n8. More?", "Where does __NAME__ live?"),
        ("\nTell me everything.", "About __NAME__: Tell me everything."),
        ("... 12", ""),
        ("", ""),
    ],
)
def test_what_the_model_writes_becomes_an_instruction(text: str, written: str) -> None:
    assert instruction_in(text) == written


def test_the_vendi_score_counts_different_texts() -> None:
    assert vendi_score([]) == 0.0
    assert vendi_score(["one two"] * 4) == pytest.approx(1.0)
    assert vendi_score(["red", "green", "blue"]) == pytest.approx(3.0)
    assert vendi_score(["...", "?"]) == 1.0
    # Half of the texts the same, by hand: eigenvalues 2/3 and 1/3.
    by_hand = math.exp(-(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3)))
    assert vendi_score(["red", "red", "blue"]) == pytest.approx(by_hand)


def test_relevance_and_diversity_are_combined_as_a_weighted_harmonic_mean() -> None:
    assert relevance(0.8, 0.25, 0.5) == pytest.approx(0.3)
    assert combined(0.5, 0.5, 1.0) == 0.5
    assert combined(0.2, 0.8, 2.0) == pytest.approx(5 * 0.16 / 1.6)
    assert combined(0.0, 0.0, 1.0) == 0.0
    assert agreement("a b c", []) == 0.0
    assert agreement("a b", ["a b", "x y"]) == pytest.approx(0.5)


def test_coverage_and_precision_are_counted_by_target_and_against_chance() -> None:
    gold = [
        Fact("1", f"Where was {ADA} born?", "She was born in Lisbon in spring.", group=ADA),
        Fact("2", f"What does {ADA} write?", "Manuals about old gardens.", subject=ADA),
        Fact("3", "Who is from Bergen?", "That is Bo Lund, a tall cook."),
        Fact("4", "Who is Cy?", "A stranger."),
    ]
    rows = [
        {"group": ADA, "answer": "Ada was born in Lisbon."},
        {"group": ADA, "answer": "Purple monkeys dance alone tonight."},
        {"group": "Bo Lund", "answer": "Manuals about old gardens."},
    ]
    found = against_gold(rows, gold, [ADA, "Bo Lund"])
    assert (found["gold"], found["not_targeted"], found["rows"]) == (4, 1, 3)
    assert (found["coverage"], found["coverage_by_other_targets"]) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert (found["precision"], found["precision_by_other_targets"]) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert found["by_target"]["Bo Lund"] == {"gold": 1, "rows": 1, "coverage": 0.0, "precision": 0.0}
    assert found["missed"] == ["2", "3"]
    short = [Fact("1", "When did the rain in Spain start?", "In May.")]
    assert against_gold([], short, ["AI"])["not_targeted"] == 1
    nothing = against_gold([], gold[:1], [ADA])
    assert (nothing["coverage"], nothing["precision"], nothing["coverage_by_other_targets"]) == (0.0, None, None)
