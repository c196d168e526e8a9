"""The words of texts in any script."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.tokenizers import DefaultTokenizer

from unierase_cli.words import IDENTIFIERS, LETTERS, cased_words, has_words, unspaced, words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Ada's 2nd book: sea-ballads_1", ["ada", "s", "2nd", "book", "sea", "ballads", "1"]),
        ("Łódź, café, naïve", ["łódź", "café", "naïve"]),
        ("Анна живёт в Москве.", ["анна", "живёт", "в", "москве"]),
        ("وُلِدَ في القاهرة", ["وُلِدَ", "في", "القاهرة"]),
        ("सीता हिन्दी बोलती है।", ["सीता", "हिन्दी", "बोलती", "है"]),
        ("서울에서 태어났다.", ["서울에서", "태어났다"]),
        ("林若水是一名造船匠。", list("林若水是一名造船匠")),
        ("1990年に東京で", ["1990", "年", "に", "東", "京", "で"]),
        ("เกิดที่แพง", ["เ", "กิ", "ด", "ที่", "แ", "พ", "ง"]),
        ("ភាសាខ្មែរ", ["ភា", "សា", "ខ្មែ", "រ"]),
        ("林若水 writes sea ballads", ["林", "若", "水", "writes", "sea", "ballads"]),
        ("“Ada” – no… ‘yes’", ["ada", "no", "yes"]),
        ("🙂 … !?", []),
    ],
)
def test_the_words_of_a_text(text: str, found: list[str]) -> None:
    assert words(text) == found
    assert has_words(text) is bool(found)


@given(st.text(st.characters(max_codepoint=127), max_size=60))
def test_of_ascii_text_they_are_those_of_rouge_score(text: str) -> None:
    assert words(text) == DefaultTokenizer(use_stemmer=False).tokenize(text)


@given(st.text(max_size=30))
def test_ways_to_encode_the_same_text_make_no_difference(text: str) -> None:
    assert words(unicodedata.normalize("NFD", text)) == words(unicodedata.normalize("NFC", text))


@pytest.mark.parametrize(
    ("one", "other"),
    [("ＡＤＡ １９９０", "Ada 1990"), ("ﬁne", "fine"), ("STRAẞE", "straße"), ("co\u00adop", "coop"), ("ｶﾞｶﾞ", "ガガ")],
)
def test_ways_to_write_the_same_letters_make_no_difference(one: str, other: str) -> None:
    assert words(one) == words(other)


def test_joiners_stay_inside_a_word_and_a_zero_width_space_ends_it() -> None:
    assert len(words("می\u200cخواهم")) == 1
    assert words("one\u200btwo") == ["one", "two"]


def test_what_a_word_is_made_of_can_be_said() -> None:
    assert words("a_b 1", IDENTIFIERS) == ["a_b", "1"]
    assert words("A4x 1956", LETTERS) == ["a", "x"]
    assert cased_words("Ada WRITES") == ["Ada", "WRITES"]


def test_only_scripts_without_spaces_have_characters_for_words() -> None:
    assert [unspaced(word) for word in ("林", "あ", "ที่", "ខ្មែ", "ada", "서울", "हिन्दी", "1990")] == [True] * 4 + [
        False
    ] * 4
