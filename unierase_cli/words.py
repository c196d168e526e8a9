"""Splits text in any script into words, for everything that compares or counts words.

A word is a run of letters, digits and their combining marks, case folded; everything else (punctuation, symbols, emoji,
the underscore) separates words. For ASCII text these are the words of ``rouge_score``. For other text words keep their
letters: "café" is one word where ``rouge_score`` sees "caf", and text without Latin letters has words at all. Scripts
without spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese and related scripts) give one word per
user-perceived character, as sacrebleu does for Chinese: a dictionary may split the same words in two ways.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regex import Pattern

# Particles inside a name: "Ludwig van Beethoven", "Laila Amira al-Faisal", "Jamie-li".
_PARTICLES = "al ap ben bin da das de del della den der di dos du el ibn la le lo of the van von y zu"
PARTICLES = frozenset(_PARTICLES.split())
# What a decoder writes for the bytes of an unfinished character.
UNFINISHED = "\ufffd"
LETTERS = r"\p{L}"
LETTERS_AND_DIGITS = r"\p{L}\p{N}"
# As in Python's \w: what it calls a word in ASCII text.
IDENTIFIERS = r"\p{L}\p{N}_"
# The same words of ASCII text, which has no marks and no unspaced script, several times as fast.
_ASCII = {
    LETTERS: re.compile("[A-Za-z]+"),
    LETTERS_AND_DIGITS: re.compile("[A-Za-z0-9]+"),
    IDENTIFIERS: re.compile("[A-Za-z0-9_]+"),
}
# Chinese and Japanese scripts, and scripts that need a dictionary for line breaks (Line_Break=SA).
_UNSPACED = r"[[\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{scx=Bopomofo}\p{lb=SA}]&&[\p{L}\p{M}\p{N}]]"
# Joiners, variation selectors and direction marks do not change a word. The zero width space separates words, so it is
# kept.
_INVISIBLE = r"[\p{Default_Ignorable_Code_Point}--\u200b]"


def words(text: str, kinds: str = LETTERS_AND_DIGITS) -> list[str]:
    """The words, case folded; composed (NFC) and decomposed, full-width and plain letters give the same words.

    ``kinds``: the characters that make up a word besides marks, as the inside of a regex character set.
    """
    return [folded(word) for word in cased_words(text, kinds)]


def cased_words(text: str, kinds: str = LETTERS_AND_DIGITS) -> list[str]:
    """The words as written."""
    if text.isascii() and kinds in _ASCII:
        return _ASCII[kinds].findall(text)
    return _pattern(_word(kinds)).findall(visible(text))


def has_words(text: str) -> bool:
    """Whether the text has a word; emoji and punctuation are not words."""
    return _pattern(_word(LETTERS_AND_DIGITS)).search(visible(text)) is not None


def folded(word: str) -> str:
    """One form for all spellings of the same letters: case, width, ligatures."""
    if word.isascii():
        return word.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", word).casefold())


def visible(text: str) -> str:
    """The text composed (NFC), without invisible characters."""
    return text if text.isascii() else _pattern(_INVISIBLE).sub("", unicodedata.normalize("NFC", text))


def mostly_latin(texts: Iterable[str]) -> bool:
    """Whether at least half of the letters are Latin; True without letters."""
    whole = "".join(texts)
    latin = len(_pattern(r"[\p{L}&&\p{Latin}]").findall(whole))
    return 2 * latin >= len(_pattern(r"\p{L}").findall(whole))


def unspaced(word: str) -> bool:
    """Whether a word is a character of a script without spaces between words."""
    return _pattern(_UNSPACED).match(word) is not None


def _word(kinds: str) -> str:
    return rf"(?={_UNSPACED})\X|[[{kinds}]--{_UNSPACED}][[{kinds}\p{{M}}]--{_UNSPACED}]*"


@cache
def _pattern(expression: str) -> Pattern[str]:
    import regex

    return regex.compile(expression, regex.VERSION1)
