"""Entities in answers, as tokens."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from tests.helpers.tiny_models import FACTS, FAMILIES, tiny, tiny_llama
from unierase_cli.contracts import COMPLETION, Fact, UserError
from unierase_cli.representation.entities import Entity, entities_of, read_entities, whole_answer
from unierase_cli.representation.rows import Tokenisation, entity_rows

TEXT = "Question: Who wrote the sea ballads?\nAnswer: It was Ada Quill, of course."
ENTITY = Entity("ada", "Who wrote the sea ballads?", "It was Ada Quill, of course.", "It was", "Ada Quill")


@pytest.mark.parametrize("tokenisation", ["joint", "apart"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_ends_with_the_tokens_of_the_entity(family: str, tokenisation: Tokenisation) -> None:
    loaded = tiny(family)
    (row,) = entity_rows(loaded.prompts, [ENTITY], tokenisation=tokenisation).rows
    assert loaded.tokenizer.decode(row.labels).strip() == "Ada Quill"
    assert row.stop == len(row.ids)
    assert [row.ids[place + 1] for place in row.positions] == row.labels
    assert loaded.tokenizer.decode(row.ids, skip_special_tokens=True) == TEXT[: TEXT.index(",")]


def test_the_default_row_is_the_sequence_that_the_model_is_trained_on() -> None:
    prompts = tiny_llama().prompts
    for style in (None, "plain"):
        (row,) = entity_rows(prompts, [ENTITY], style=style).rows
        trained = prompts.prompt(ENTITY.question, style).ids + prompts.answer_ids(ENTITY.answer, style=style)
        assert row.ids == trained[: row.stop]


def test_plain_text_is_continued_as_it_is() -> None:
    text = Fact("ada", "The sea ballads are by", "Ada Quill, of course.", kind=COMPLETION)
    prompts = tiny_llama().prompts
    whole = [*prompts.prompt(text.question, COMPLETION).ids, *prompts.answer_ids(text.answer, style=COMPLETION)]
    for tokenisation, style in product(("joint", "apart"), (None, "plain")):
        (row,) = entity_rows(prompts, [whole_answer(text)], tokenisation=tokenisation, style=style).rows  # type: ignore[arg-type]
        assert row.ids == whole[: row.stop]
        assert "Question" not in prompts.tokenizer.decode(row.ids)


def test_white_space_around_an_answer_moves_nothing() -> None:
    prompts = tiny_llama().prompts
    padded = Entity("ada", ENTITY.question, f"  {ENTITY.answer} ", "  It was", " Ada Quill")
    for style in (None, "plain"):
        (row,), (other,) = (entity_rows(prompts, [entity], style=style).rows for entity in (ENTITY, padded))
        assert prompts.tokenizer.decode(row.labels).strip() == prompts.tokenizer.decode(other.labels).strip()


def test_an_entity_is_looked_for_behind_the_prefix() -> None:
    twice = Entity("red", "Which colour?", "red is the colour red", "red is the colour", "red")
    loaded = tiny_llama()
    (row,) = entity_rows(loaded.prompts, [twice]).rows
    assert loaded.tokenizer.decode(row.ids).endswith("red is the colour red")


def test_an_answer_without_the_entity_and_one_beyond_the_context_are_skipped_and_counted() -> None:
    prompts = tiny_llama(max_position_embeddings=64).prompts
    absent = Entity("absent", ENTITY.question, ENTITY.answer, ENTITY.prefix, "Bo Reed")
    long = Entity("long", ENTITY.question, "sea " * 80 + "Ada Quill", "", "Ada Quill")
    for tokenisation in ("joint", "apart"):
        found = entity_rows(prompts, [absent, ENTITY, long], tokenisation=tokenisation)  # type: ignore[arg-type]
        assert [row.fact_id for row in found.rows] == ["ada"]
        assert (found.not_found, found.too_long, found.skipped) == (["absent"], ["long"], 2)


def test_a_fact_without_a_line_in_the_file_of_entities_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "entities.jsonl"
    question = FACTS[0].question.upper()
    path.write_text(f'{{"idx": 3, "question": "{question}", "prefix": "She is", "entity": "a sailor"}}\n', "utf-8")
    (found,) = entities_of(FACTS[:3], read_entities(path))
    assert (found.fact_id, found.answer, found.entity) == (FACTS[0].id, FACTS[0].answer, "a sailor")


def test_without_a_file_the_whole_answer_is_the_entity() -> None:
    fact = Fact("f", "Who?", " Ada. ")
    assert entities_of([fact]) == [whole_answer(fact)] == [Entity("f", "Who?", " Ada. ", "", "Ada.")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"question": "Who?", "prefix": "", "entity": 3}', "entities.jsonl:1: Expected `str`, got `int`"),
        ('{"question": "Who?", "prefix": ""}', "entities.jsonl:1: Object missing required field `entity`"),
        ('{"question": "Who?", "prefix": "", "entity": " "}', "entities.jsonl:1: entity is blank"),
        ('{"question": "", "prefix": "", "entity": "Ada"}', "entities.jsonl:1: question is blank"),
        ("", "has no line"),
    ],
)
def test_a_bad_file_of_entities_is_one_clear_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "entities.jsonl"
    path.write_text(text, "utf-8")
    with pytest.raises(UserError, match=said) as caught:
        read_entities(path)
    assert '"prefix"' in caught.value.hint


def test_the_entities_of_tofu_are_found_in_their_answers(shared: Path) -> None:
    lines = read_entities(shared / "data" / "uds" / "forget10_entities.jsonl")
    assert len(lines) == 367
