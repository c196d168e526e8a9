"""Which groups (authors) are most similar, by the words of their questions and answers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from unierase_cli.contracts import Fact
from unierase_cli.words import LETTERS, cased_words, folded


def group_key(fact: Fact) -> str:
    """The key that neighbours share; a fact without a group has its own."""
    return f"group:{fact.group}" if fact.group is not None else f"row:{fact.id}"


def by_group(facts: Sequence[Fact]) -> dict[str, list[Fact]]:
    """Facts by group; groups and facts keep their order."""
    groups: dict[str, list[Fact]] = {}
    for fact in facts:
        groups.setdefault(group_key(fact), []).append(fact)
    return groups


def nearest_groups(forget: Sequence[Fact], candidates: Sequence[Fact], count: int) -> list[str]:
    """Keys of the ``count`` groups of ``candidates`` nearest to any group of ``forget``, nearest first."""
    nearness = nearest_forgotten(forget, candidates)
    return sorted(nearness, key=lambda key: (-nearness[key][0], key))[:count]


def nearest_first(forget: Sequence[Fact], candidates: Sequence[Fact]) -> tuple[Fact, ...]:
    """The candidates, those of the groups nearest to any group of ``forget`` first; within a group in their order."""
    places = {key: place for place, key in enumerate(nearest_groups(forget, candidates, len(candidates)))}
    return tuple(sorted(candidates, key=lambda fact: places[group_key(fact)]))


def nearest_forgotten(forget: Sequence[Fact], candidates: Sequence[Fact]) -> dict[str, tuple[float, str]]:
    """Key of every group of ``candidates`` -> its similarity to the nearest group of ``forget``, and that group's key.

    Cosine between TF-IDF vectors (term count x log(N / document frequency)) of a group's concatenated questions and
    answers. A group's own name is excluded: people with similar names are not neighbours in content. A partly forgotten
    group is its own nearest.
    """
    forgotten, others = by_group(forget), by_group(candidates)
    words = {key: _content_words(facts) for key, facts in {**others, **forgotten}.items()}
    documents = Counter(word for counts in words.values() for word in counts)
    vectors = {key: _unit_vector(counts, documents, len(words)) for key, counts in words.items()}
    return {key: max((_dot(vectors[key], vectors[known]), known) for known in forgotten) for key in others}


def _content_words(facts: Sequence[Fact]) -> Counter[str]:
    """Lower-cased words of a group without its name: words capitalised in half of its questions (and in at least two)."""
    questions = [_words(fact.question) for fact in facts]
    capitals = Counter(word for words in questions for word in set(words) if word[0].isupper())
    # The first word of a question is capitalised too, but question words have almost no inverse document frequency.
    name = {folded(word) for word, times in capitals.items() if times >= max(2, len(facts) / 2)}
    # Most words occur many times.
    times_said = Counter(word for words in questions for word in words)
    times_said.update(word for fact in facts for word in _words(fact.answer))
    counts: Counter[str] = Counter()
    for word, times in times_said.items():
        if (one := folded(word)) not in name:
            counts[one] += times
    return counts


def _words(text: str) -> list[str]:
    return cased_words(text, LETTERS)


def _unit_vector(counts: Mapping[str, int], documents: Mapping[str, int], total: int) -> dict[str, float]:
    vector = {word: times * math.log(total / documents[word]) for word, times in counts.items()}
    length = math.sqrt(math.fsum(value * value for value in vector.values())) or 1.0
    return {word: value / length for word, value in vector.items()}


def _dot(left: Mapping[str, float], right: Mapping[str, float]) -> float:
    small, large = (left, right) if len(left) <= len(right) else (right, left)
    return math.fsum(value * large[word] for word, value in small.items() if word in large)
