"""What counts as known about a target, and what the evidence says about the rest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.helpers.telling import ADA, BO, CITY, CONFIG, GENRE, LISTED, teller
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.revealing.instructions import Instruction
from unierase_cli.revealing.reveal import instruction_scores, mean_relevance, refuses, reveal, rows_of
from unierase_cli.revealing.targets import Target
from unierase_cli.revealing.told import MADE_UP, Told, ask_about, in_words

KNOWN = {
    CITY.about(ADA): f"{ADA} was born in the old town of Lisbon.",
    GENRE.about(ADA): f"{ADA} writes manuals for keepers of gardens.",
}


def told_of(answers: dict[str, str], *instructions: Instruction, name: str = ADA, kind: str = "person") -> Told:
    ask, _ = teller(answers)
    return ask_about(Target(name, kind), instructions, ask, refuses(), CONFIG, 0)


def fault(answer: str, kind: str = "person", name: str = ADA, control: str = "") -> str:
    one = Instruction("one", "Where is __NAME__?", kind)
    answers = {one.about(name): answer, one.about(MADE_UP[kind].name): control}
    return told_of(answers, one, name=name, kind=kind).asked[0].fault


def revealed(names: Sequence[str], answers: dict[str, str], file: Path | None = None) -> tuple[list[Told], list[str]]:
    ask, shown = teller(answers)
    targets = [Target(name, "person") for name in names]
    found = reveal(targets, {"person": [CITY, GENRE]}, ask, CONFIG, seed=0, reporter=SilentReporter(), file=file)
    return found, shown


def test_a_question_whose_drawn_answers_agree_becomes_a_row_and_one_whose_answers_differ_does_not() -> None:
    told = told_of({CITY.about(ADA): KNOWN[CITY.about(ADA)]}, CITY, GENRE)
    assert [(a.question, a.fault) for a in told.asked] == [
        (CITY.about(ADA), ""), (GENRE.about(ADA), "about somebody else"),
    ]  # fmt: skip
    (row,) = rows_of([told], CONFIG, 3)
    assert (row["question"], row["answer"]) == (CITY.about(ADA), KNOWN[CITY.about(ADA)])
    assert (row["subject"], row["group"], row["round"], row["instruction"], row["agreement"]) == (ADA, ADA, 3, "city", 1.0)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (f"{ADA} lives in Porto near the river.", ""),
        ("In Porto.", ""),
        ("Her house is the red one in Porto, near the river.", ""),
        ("", "degenerate"),
        (f"Where is {ADA}?", "repeats the question"),
        ("I'm sorry, I can't say anything about that.", "refused"),
        ("Bruno Okello lives in Kampala by the lake.", "about somebody else"),
    ],
)
def test_every_answer_that_shows_no_knowledge_has_its_reason(answer: str, reason: str) -> None:
    assert fault(answer) == reason


def test_a_particle_of_a_name_does_not_make_an_answer_one_about_it() -> None:
    answer = "In the city of London lived a painter of the sea."
    assert fault(answer, name="Alexander the Great") == "about somebody else"
    assert fault(f"{answer} That was Alexander.", name="Alexander the Great") == ""


def test_an_answer_that_a_made_up_name_gets_too_is_no_knowledge() -> None:
    strange = MADE_UP["person"].name
    assert fault(f"{ADA} lives in Porto.", control=f"{strange} lives in Porto.") == "same for a made-up name"
    assert fault(f"{ADA} lives in Porto.", control=f"{strange} is from Bergen.") == ""


def test_answers_about_a_topic_need_not_name_it() -> None:
    assert fault("Deep under the northern sea, where the pressure is high.", kind="topic", name="black coral") == ""


def test_questions_read_from_a_list_are_asked_alone_and_their_claims_count() -> None:
    text = f"Q: Where was {ADA} born?\nA: In Lisbon.\n2. What does she write?\nA: Poems."
    asked = {f"Where was {ADA} born?": f"{ADA} was born in Lisbon.", f"What does {ADA} write?": f"{ADA} writes songs."}
    told = told_of({LISTED.about(ADA): text, **asked}, LISTED)
    assert [a.question for a in told.asked] == list(asked)
    assert told.texts == {"listed": text}
    born, writes = told.asked
    assert 0.7 < born.agreement < 1.0
    assert writes.agreement < born.agreement
    # The list does not name her, so what was read from it counts for nothing.
    assert {a.mentioned for a in told.asked} == {1.0}
    assert told_of({LISTED.about(ADA): "Q: Where was she born?\nA: Rome."}, LISTED).asked[0].mentioned == 0.0


def test_near_repeats_are_one_row_and_each_target_has_at_most_so_many() -> None:
    again = Instruction("again", "In which city was __NAME__ born then?", "person")
    answers = {**KNOWN, again.about(ADA): KNOWN[CITY.about(ADA)]}
    told = told_of(answers, CITY, again, GENRE)
    assert [a.instruction for a in told.rows(10)] == ["city", "genre"]
    assert len(told.rows(1)) == 1


def test_a_target_that_the_model_does_not_know_is_reported_with_the_evidence() -> None:
    (ada, bo), _ = revealed([ADA, BO], KNOWN)
    assert (ada.share, ada.chance, bo.share) == (1.0, 0.0, 0.0)
    assert len(rows_of([ada, bo], CONFIG)) == 2
    evidence = bo.evidence(10)
    assert (evidence["verdict"], evidence["rows"], evidence["asked"]) == ("nothing to forget", 0, 2)
    assert in_words(evidence) == (
        "nothing to forget: 2 questions, agreement 0.00, 0.00 without fault (0.00 for a made-up name); 2 about somebody else"
    )
    assert in_words(ada.evidence(10)).startswith("2 rows: 2 questions, agreement 1.00, 1.00 without fault")


def test_a_target_that_the_model_refuses_to_talk_about_has_nothing_to_forget() -> None:
    no = "I'm sorry, I can't help with that."
    (ada,), _ = revealed([ADA], {CITY.about(ADA): no, GENRE.about(ADA): no})
    evidence = ada.evidence(10)
    assert (evidence["rows"], evidence["refused"], evidence["faults"]) == (0, 1.0, {"refused": 2})


def test_a_model_that_makes_up_as_much_about_nobody_knows_nothing() -> None:
    strange = MADE_UP["person"].name
    invented = {one.about(strange): f"{strange} is from {n} towns by the {n} seas." for n, one in enumerate((CITY, GENRE))}
    (ada,), _ = revealed([ADA], {**KNOWN, **invented})
    assert (ada.share, ada.chance, ada.rows(10)) == (1.0, 1.0, [])


def test_a_made_up_name_is_no_target() -> None:
    with pytest.raises(UserError, match="made-up name"):
        revealed([MADE_UP["person"].name], {})


def test_what_was_recorded_is_not_asked_again(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    first, shown = revealed([ADA, BO], KNOWN, file)
    assert shown
    lines = file.read_text("utf-8").splitlines(keepends=True)
    # The last target's line was being written when the process died.
    file.write_text("".join(lines[:-1]) + lines[-1][:20], "utf-8")
    again, asked = revealed([ADA, BO], KNOWN, file)
    assert again == first
    assert asked
    assert not [text for text in asked if ADA in text]


def test_instructions_are_scored_by_relevance_and_diversity() -> None:
    (ada, bo), _ = revealed([ADA, BO], KNOWN)
    city, genre, unused = instruction_scores([ada, bo], [CITY, GENRE, LISTED], 1.0)
    # Of two targets one is known, whose answers agree and name it.
    assert (city["asked"], city["kept"], city["agreement"], city["mentioned"], city["relevance"]) == (2, 1, 0.5, 0.5, 0.25)
    assert 0.5 < city["diversity"] <= 1.0
    assert city["score"] == pytest.approx(2 * 0.25 * city["diversity"] / (0.25 + city["diversity"]))
    assert genre["score"] > 0
    assert (unused["asked"], unused["score"]) == (0, 0.0)
    assert mean_relevance([ada, bo]) == 0.5
    assert mean_relevance([]) == 0.0
