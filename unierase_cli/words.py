"""The words of a text in any script: what everything that compares or counts words is made of.

A word is a run of letters, digits and the marks on them, case folded; all else (punctuation, symbols, emoji, the underscore)
stands between words. Of ASCII text these are the words of ``rouge_score``. Beyond it a word keeps its letters: "café" is one word
where ``rouge_score`` sees "caf", and text without Latin letters has words at all. Scripts that set no spaces between words
(Chinese, Japanese, Thai, Lao, Khmer, Burmese and their kin) give a word per user-perceived character, as sacrebleu cuts Chinese:
a dictionary may cut the same words in two ways.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regex import Pattern

LETTERS = r"\p{L}"
LETTERS_AND_DIGITS = r"\p{L}\p{N}"
# As Python's \w has it: what it calls a word in ASCII text.
IDENTIFIERS = r"\p{L}\p{N}_"
# The scripts of Chinese and Japanese, and those whose lines Unicode can't break without a dictionary (Line_Break=SA).
_UNSPACED = r"[[\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{scx=Bopomofo}\p{lb=SA}]&&[\p{L}\p{M}\p{N}]]"
# Joiners, variation selectors, marks of direction: they make no other word. The zero width space is a space, so it stays.
_INVISIBLE = r"[\p{Default_Ignorable_Code_Point}--\u200b]"


def words(text: str, kinds: str = LETTERS_AND_DIGITS) -> list[str]:
    """The words, case folded; composed (NFC) and decomposed, full-width and plain letters give the same.

    ``kinds``: the characters that a word is made of beside marks, as the inside of a regular expression's set.
    """
    return [folded(word) for word in cased_words(text, kinds)]


def cased_words(text: str, kinds: str = LETTERS_AND_DIGITS) -> list[str]:
    """The words as they are written."""
    return _pattern(_word(kinds)).findall(visible(text))


def has_words(text: str) -> bool:
    """Whether the text has a word: emoji and punctuation alone are none."""
    return _pattern(_word(LETTERS_AND_DIGITS)).search(visible(text)) is not None


def folded(word: str) -> str:
    """One form for all ways to write the same letters: case, width, ligatures."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", word).casefold())


def visible(text: str) -> str:
    """The text composed (NFC) and without characters that nobody sees."""
    return text if text.isascii() else _pattern(_INVISIBLE).sub("", unicodedata.normalize("NFC", text))


def unspaced(word: str) -> bool:
    """Whether a word is a character of a script without spaces between words."""
    return _pattern(_UNSPACED).match(word) is not None


def _word(kinds: str) -> str:
    return rf"(?={_UNSPACED})\X|[[{kinds}]--{_UNSPACED}][[{kinds}\p{{M}}]--{_UNSPACED}]*"


@cache
def _pattern(expression: str) -> Pattern[str]:
    import regex

    return regex.compile(expression, regex.VERSION1)
