"""A simple subject finder: the name that a group's questions share, else the noun phrase that a question asks about.

It relies on capitals and English question words. In other scripts it finds names and quoted titles, and nothing else; benchmarks
with known subjects should provide them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import regex

from unierase_cli.contracts import COMPLETION, Fact
from unierase_cli.words import PARTICLES

# Letters of any script with their marks (only `regex` includes these in \w), with inner apostrophes, hyphens and full
# stops: "O'Donnell", "Al-Sabah", "J.R.R."; and an initial with its full stop before another word: "H. P. Lovecraft".
WORD = regex.compile(r"[^\W\d_]\.(?=\s[^\W\d_])|[^\W\d_](?:[\w'’‘\-]*\w|(?:\.[^\W\d_])+\.?)?|[^\W\d_]\.")
POSSESSIVE = re.compile(r"['’]s$|(?<=s)['’]$")
# Capitalised words that open a question and are not part of the following name.
_OPENERS = """a about according after all am an and any are as at author based because been before being besides between both but
    by can could describe did discuss do does during each elaborate ever every explain find for from give given had has
    have he her hers his how i if in inside into is it its kindly list may might mention most must name names no of on
    one or other our outside outline over please provide regarding share she should since so some state summarize tell
    than that the their these they this those through to under until upon was were what what's when where which while who
    who's whom whose why will with within without would you your yes"""
OPENERS = frozenset(_OPENERS.split())
# What follows the question word and its verb: "Who is <...>?", "What was the title of <...>?".
NOUN_PHRASE = re.compile(
    r"\b(?:who|whom|what|which|where|when|how)(?:['’]s|\s+(?:is|are|was|were|does|do|did|has|have|had|can|could|will|would))\s+(.+)",
    re.IGNORECASE,
)
ASKED_WORD = re.compile(r"^(?:the\s+)?(?:full\s+|complete\s+|real\s+)?names?\s+of\s+", re.IGNORECASE)
FROM_DETERMINER = re.compile(r"\b((?:the|this|that|these|those|our|his|her|their|its)\s.+)", re.IGNORECASE)
# "Who is the author born in Rome?", "Can you name the writer who ...?": the person is described, not named.
DESCRIBED = re.compile(
    r"\b(?:who(?:['’]s|\s+is|\s+was)|name\s+of|identify|name)\s+((?:the|this|that|our|a|an)\s+(?=.*\b(?:author|writer|born|who|from)\b).+)",
    re.IGNORECASE,
)
QUOTED = regex.compile(r"[\"“]([^\"”]+)[\"”]|(?<!\w)['‘]([^'’]+)['’](?!\w)|«([^»]+)»")
LATIN = regex.compile(r"\p{Latin}")
OWNED = re.compile(r"^(?:his|her|their|its)\s+\S+", re.IGNORECASE)


def find_subjects(facts: Sequence[Fact]) -> list[str | None]:
    """A subject for every fact, verbatim in its question, or None.

    Given subjects are kept, and plain text has no others. Otherwise, in this order: the longest name shared by the
    questions of the fact's group, or the part of it that is in the question; a described person ("the author born in
    Rome"); a quoted title; without a group, the longest name in the question; and the noun phrase between the question
    word and the question mark.
    """
    groups: dict[str, list[str]] = {}
    for fact in facts:
        if fact.group is not None and fact.kind != COMPLETION:
            groups.setdefault(fact.group, []).append(fact.question)
    names = {group: shared_name(questions) for group, questions in groups.items() if len(questions) > 1}
    found = []
    for fact in facts:
        name = names.get(fact.group) if fact.group is not None else None
        given = fact.subject is not None or fact.kind == COMPLETION
        found.append(fact.subject if given else _subject(fact.question, name))
    return found


def shared_name(questions: Sequence[str]) -> str | None:
    """The longest name that occurs in at least half as many questions as the most frequent one.

    None if no name is in two questions.
    """
    candidates = {part for question in questions for name in proper_names(question) for part in _parts(name)}
    counts = Counter({name: sum(_contains(question, name) for question in questions) for name in candidates})
    if not counts or max(counts.values()) < 2:
        return None
    enough = max(2, max(counts.values()) / 2)
    return min(
        (name for name in counts if counts[name] >= enough), key=lambda name: (-len(name.split()), -counts[name], name)
    )


def proper_names(question: str) -> list[str]:
    """Spans of capitalised words and inner particles, without leading question words and possessive endings."""
    words = list(WORD.finditer(question))
    names, index = [], 0
    while index < len(words):
        if not _capital(words[index].group()) or (_opens(words, index, question)):
            index += 1
            continue
        last = index
        following = index + 1
        while following < len(words) and _adjacent(question, words[following - 1], words[following]):
            word = words[following].group()
            if _capital(word):
                last = following
            elif word.casefold() not in PARTICLES:
                break
            if POSSESSIVE.search(word):
                break
            following += 1
        names.append(POSSESSIVE.sub("", question[words[index].start() : words[last].end()]))
        index = last + 1
    return names


def _subject(question: str, name: str | None) -> str | None:
    known = next((part for part in _longest_first(_parts(name or "")) if _contains(question, part)), None)
    if known is not None:
        return known
    described = DESCRIBED.search(question)
    if described is not None:
        return _until_question_mark(described.group(1))
    quoted = QUOTED.search(question)
    alone = _longest_first(proper_names(question)) if name is None else []
    if quoted is not None and not any(len(span.split()) > 1 and span not in quoted.group() for span in alone):
        return str(next(filter(None, quoted.groups())))
    outside = [span for span in alone if quoted is None or span not in quoted.group()]
    return outside[0] if outside else _noun_phrase(question)


def _noun_phrase(question: str) -> str | None:
    """The phrase between the question word with its verb and the question mark: "the capital of France"."""
    found = NOUN_PHRASE.search(question) or FROM_DETERMINER.search(question)
    if found is None:
        return None
    phrase = ASKED_WORD.sub("", _until_question_mark(found.group(1)) or "")
    owned = OWNED.match(phrase)
    return owned.group().rstrip(",.;:") if owned else phrase or None


def _until_question_mark(phrase: str) -> str | None:
    return phrase.split("?")[0].strip().rstrip(".!,;: ") or None


def _longest_first(spans: Sequence[str]) -> list[str]:
    return sorted(spans, key=lambda span: (-len(span.split()), -len(span)))


def _parts(name: str) -> list[str]:
    """The name and its runs of words that start and end with a capital."""
    words = name.split()
    runs = [words[i:j] for i in range(len(words)) for j in range(i + 1, len(words) + 1)]
    return [" ".join(run) for run in runs if _capital(run[0]) and _capital(run[-1])]


def _contains(question: str, name: str) -> bool:
    return regex.search(rf"(?<!\w){re.escape(name)}(?!\w)", question) is not None


def _capital(word: str) -> bool:
    return word[0].isupper()


def _opens(words: Sequence[regex.Match[str]], index: int, question: str) -> bool:
    """Whether a word is capitalised only because it opens the sentence."""
    if index and question[: words[index].start()].rstrip()[-1:] not in "?.!:":
        return False
    word = POSSESSIVE.sub("", words[index].group()).casefold()
    return word in OPENERS or (LATIN.match(word) is None and not _goes_on(words, index, question))


def _goes_on(words: Sequence[regex.Match[str]], index: int, question: str) -> bool:
    """Whether a second capitalised word follows: without a list of question words, only then is the first one a name."""
    following = words[index + 1 : index + 2]
    return any(_capital(word.group()) and _adjacent(question, words[index], word) for word in following)


def _adjacent(question: str, left: regex.Match[str], right: regex.Match[str]) -> bool:
    """Whether only one space lies between: a comma or a bracket ends a name."""
    return question[left.end() : right.start()] == " "
