"""Answers made of the words of others."""

from __future__ import annotations

from unierase_cli.training.unlearning.mixed_words import COMMON, with_others_words

CITIES = ("Lisbon", "Porto Alegre", "Oslo")
BORN = [(f"Where was {name} born?", f"{name} was born in {city}.") for name, city in zip("ABC", CITIES, strict=True)]


def test_common_words_and_those_of_the_question_stay_and_the_others_are_the_next_ones() -> None:
    assert with_others_words(BORN) == [
        "A was born in Porto",
        "B was born in Oslo. Oslo.",
        "C was born in Lisbon.",
    ]


def test_an_answer_of_nothing_but_its_fact_becomes_the_next_one() -> None:
    assert with_others_words([("Capital of France?", "Paris"), ("Capital of Cuba?", "Havana")]) == ["Havana", "Paris"]


def test_without_words_that_state_a_fact_the_next_answer_takes_the_place() -> None:
    assert with_others_words([("Is it so?", "So it is"), ("Which?", "The red one")]) == ["The red one", "So it is"]
    assert with_others_words([("京都はどこ？", "日本です"), ("台北はどこ？", "台湾です")]) == ["台湾です", "日本です"]


def test_a_true_answer_is_never_made() -> None:
    asked = [("Is A?", "Yes."), ("Is B?", "yes"), ("Is C?", "No.")]
    assert with_others_words(asked) == ["No.", "No.", "Yes."]
    assert with_others_words(asked[:2]) == [None, None]
    assert with_others_words([("Only one?", "Yes")]) == [None]


def test_what_is_common_depends_on_the_number_of_answers() -> None:
    few = int(COMMON * 40)
    pairs = [("?", f"word{n} {'rare' if n < few else 'common'} end") for n in range(40)]
    made = with_others_words(pairs)
    assert made[0] == "word1 rare end"
    assert made[few - 1].startswith(f"word{few} word{few}"), "its rare word is replaced, the common one of the next is not taken"
    assert made[few] == f"word{few + 1} common end"
