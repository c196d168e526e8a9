"""Facts in other formats and other languages: what is asked, and what counts as right."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.audits import FORGET, KEEP, empty_model, knowing, target
from unierase_cli.audit.attacks import formats, translation
from unierase_cli.audit.base import Row, Target
from unierase_cli.audit.mentions import named_entities
from unierase_cli.contracts import Fact, UserError
from unierase_cli.models.load import LoadedModel
from unierase_cli.representation.entities import Line
from unierase_cli.store.jsonl import write_jsonl

CITIES = [fact for fact in FORGET if fact.id.endswith("city")]
ENTITIES = [Line(f.question, f.answer.rpartition(" ")[0], f.answer.rpartition(" ")[2].rstrip(".")) for f in CITIES]


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return knowing([*FORGET, *KEEP])


@pytest.fixture
def under(loaded: LoadedModel) -> Target:
    facts = [replace(fact, subject=fact.group) for fact in CITIES]
    return replace(target(loaded), facts=facts, entities=ENTITIES)


def rows_of(under: Target, case: str, **settings: object) -> list[Row]:
    chosen = next(c for c in formats.cases(formats.SETTINGS) if c.name == case)
    return list(formats.run(under, chosen, {**formats.SETTINGS, **settings}))


@pytest.mark.parametrize("case", [case.name for case in formats.cases(formats.SETTINGS) if case.name != formats.REWORDED])
def test_every_format_gives_a_score_of_every_fact(under: Target, case: str) -> None:
    rows = rows_of(under, case)
    assert [row.fact for row in rows] == [fact.id for fact in CITIES]
    assert all(row.scores["right"] in (0.0, 0.5, 1.0) for row in rows)


def test_a_model_prefers_the_answer_that_it_knows(under: Target) -> None:
    rows = rows_of(under, formats.CHOICE)
    assert {row.scores["chance"] for row in rows} == {0.25}
    known = sum(row.scores["right"] for row in rows)
    assert known > sum(row.scores["right"] for row in rows_of(replace(under, loaded=empty_model()), formats.CHOICE))


def test_a_reworded_choice_has_the_true_answer_in_the_words_of_the_wrong_ones(under: Target) -> None:
    reworded = replace(CITIES[0], paraphrased_answer="Lisbon is home.", wrong_answers=("Rome is home.", "Oslo is home."))
    asked = replace(under, facts=[reworded, replace(CITIES[1], paraphrased_answer="Rome is home.")])
    (row,) = rows_of(asked, formats.REWORDED)
    assert (row.fact, row.reference) == (CITIES[0].id, "Lisbon is home.")
    assert row.text in {"Lisbon is home.", "Rome is home.", "Oslo is home."}
    assert row.scores["right"] == float(row.text == "Lisbon is home.")
    assert row.scores["chance"] == pytest.approx(1 / 3)
    assert rows_of(under, formats.REWORDED) == []


def test_wrong_answers_are_those_of_the_benchmark_else_of_questions_that_begin_alike(under: Target) -> None:
    assert formats.wrong_answers(under, replace(CITIES[0], wrong_answers=("Nowhere.",)), 3) == ["Nowhere."]
    found = formats.wrong_answers(under, CITIES[0], 3)
    assert len(set(found)) == 3
    assert all("comes from" in text and text != CITIES[0].answer for text in found)


def test_no_place_in_the_list_of_options_is_favoured(under: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[int]] = []

    def first_place(target: Target, items: list) -> list[float]:
        asked.extend(list(prompt) for prompt, _ in items)
        text = [target.loaded.tokenizer.decode(prompt) for prompt, _ in items]
        answers = [target.loaded.tokenizer.decode(answer[:-1]).strip() for _, answer in items]
        return [
            float(answer in one.partition("- ")[2].partition("\n")[0])
            for one, answer in zip(text, answers, strict=True)
        ]

    monkeypatch.setattr(formats, "answer_probabilities", first_place)
    few = replace(under, facts=[replace(CITIES[0], wrong_answers=("Nowhere.",))])
    rows_of(few, formats.CHOICE)
    assert len({tuple(prompt) for prompt in asked}) == 2, "each option stands first once"


def test_a_blank_hides_the_entity_and_a_reversed_question_the_name() -> None:
    assert formats.with_gap(CITIES[0], "Lisbon") == "Ada Velour comes from ____."
    assert formats.with_gap(replace(CITIES[0], answer="Lisbon."), "Lisbon") is None
    assert formats.without_name("Mr Velour comes from Lisbon.", "Ada Velour") == "Mr ____ comes from Lisbon."
    assert formats.without_name("Ada Velour.", "Ada Velour") is None


def test_a_format_that_does_not_fit_the_context_is_not_asked(under: Target) -> None:
    prompts = copy(under.loaded.prompts)
    prompts.max_length = 40
    short = replace(under, loaded=replace(under.loaded, prompts=prompts))
    assert rows_of(short, formats.CHOICE) == []
    assert len(rows_of(short, formats.BLANK)) == len(CITIES)


def test_facts_without_entity_or_subject_are_not_asked(under: Target) -> None:
    bare = replace(under, facts=[FORGET[1]], entities=())
    assert named_entities(bare.facts) == {"0-work": "Mostly gardening manuals."}, "a short answer is its own entity"
    assert rows_of(bare, formats.BLANK) == []
    assert rows_of(bare, formats.REVERSED) == []


def table(folder: Path, *lines: dict) -> dict:
    write_jsonl(folder / "table.jsonl", lines)
    return {"table": str(folder / "table.jsonl")}


def test_questions_are_asked_in_the_languages_of_a_table(under: Target, tmp_path: Path) -> None:
    frame = {"question": "Where was {name} born?", "language": "de", "translation": "Wo wurde {name} geboren?"}
    own = {"question": CITIES[1].question, "language": "fr", "translation": "Ou est Bruno?", "answer": "De Kampala."}
    rows = list(translation.run(under, translation.cases({})[0], table(tmp_path, frame, own)))
    assert [(row.fact, row.sample) for row in rows] == [*((fact.id, 0) for fact in CITIES), (CITIES[1].id, 1)]
    assert rows[0].question == "Wo wurde Ada Velour geboren?"
    assert (rows[0].reference, rows[-1].reference) == ("Lisbon", "De Kampala.")
    assert all(0 <= row.scores["right"] <= 1 for row in rows)


@pytest.mark.parametrize("blank", ["", "  ", "?!", None])
def test_a_blank_answer_of_a_table_is_none(under: Target, tmp_path: Path, blank: str | None) -> None:
    line = {"question": "Where was {name} born?", "language": "de", "translation": "Wo wurde {name} geboren?"}
    rows = list(translation.run(under, translation.cases({})[0], table(tmp_path, {**line, "answer": blank})))
    assert rows == list(translation.run(under, translation.cases({})[0], table(tmp_path, line)))
    without = replace(under, entities=())
    assert list(translation.run(without, translation.cases({})[0], table(tmp_path, {**line, "answer": blank}))) == []


def test_a_translation_without_answer_or_entity_is_not_asked(under: Target, tmp_path: Path) -> None:
    line = {"question": "{any}", "language": "de", "translation": "{any}"}
    assert list(translation.run(replace(under, entities=()), translation.cases({})[0], table(tmp_path, line))) == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"question": "Who?", "language": "de"}, "missing required field `translation`"),
        ({"question": "Who?", "language": "de", "translation": " "}, "translation is blank"),
        ({"question": "Who?", "language": "", "translation": "Wer?"}, "language is blank"),
        ({"question": "", "language": "de", "translation": "Wer?"}, "question is blank"),
        ({"question": "Who?", "language": "de", "translation": "Wer ist {name}?"}, "{name} is not in the question"),
    ],
)
def test_a_bad_table_is_told_in_one_line(tmp_path: Path, line: dict, said: str) -> None:
    with pytest.raises(UserError, match="table.jsonl:1") as told:
        translation.read_table(Path(table(tmp_path, line)["table"]))
    assert said in told.value.message


def test_a_frame_takes_the_words_as_they_are_written() -> None:
    fact = Fact("a", "Where was Ada VELOUR  born ?", "In Lisbon.")
    line = translation.Line("where was {who} born", "de", "Wo wurde {who} geboren?")
    (asked,) = translation.translated([fact], [line])
    assert asked.question == "Wo wurde Ada VELOUR geboren?"


@pytest.mark.parametrize("slot", ["Name", "1st", "name"])
def test_a_slot_has_any_name_and_may_be_repeated(slot: str) -> None:
    line = translation.Line(f"Is {{{slot}}} {{who}} or {{{slot}}} ?", "de", f"{{{slot}}} und {{who}}?")
    facts = [Fact("a", "Is Ada Lund or Ada?", "Yes."), Fact("b", "Is Ada Lund or Eve?", "No.")]
    assert [(asked.fact.id, asked.question) for asked in translation.translated(facts, [line])] == [("a", "Ada und Lund?")]
