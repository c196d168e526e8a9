"""Answers that no model learned, made from answers to other questions.

An answer to another question is no measure of what a model gives to facts that it does not know: a model that knows
both answers by heart recites the other one after its first words. So each answer keeps its common words and those of its
question, and its other words are replaced by those of another answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import cycle

from unierase_cli.words import words

# A word is common if a larger share of the answers has it.
COMMON = 0.1


def with_others_words(pairs: Sequence[tuple[str, str]]) -> list[str | None]:
    """For each (question, answer) the answer with the words that state its fact taken from the next answer that differs.

    An answer without such words is replaced as a whole, and so is one if the other answer has none. Words are what spaces
    separate, so that an answer in a script without spaces is one word. Pairs that have no other answer are left out, as ``None``.
    """
    counts = Counter(word for _, answer in pairs for word in set(words(answer)))
    most = max(1, COMMON * len(pairs))

    def telling(question: str, answer: str) -> list[str]:
        """The answer's words that are neither common nor in its question."""
        asked = set(words(question))

        def tells(word: str) -> bool:
            return counts[word] <= most and word not in asked

        return [part for part in answer.split() if (own := words(part)) and all(map(tells, own))]

    made: list[str | None] = []
    for place, (question, answer) in enumerate(pairs):
        following = [*pairs[place + 1 :], *pairs[:place]]
        asked, other = next((pair for pair in following if words(pair[1]) != words(answer)), ("", None))
        if other is None:
            made.append(None)
            continue
        mine, others = set(telling(question, answer)), telling(asked, other)
        made.append(" ".join(_replaced(answer, mine, others)) if mine and others else other)
    return made


def _replaced(answer: str, mine: set[str], others: Sequence[str]) -> Iterator[str]:
    source = cycle(others)
    for part in answer.split():
        yield next(source) if part in mine else part
