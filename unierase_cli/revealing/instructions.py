"""What a model is asked about a target: the seeds, and questions taken from text about others."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from unierase_cli.contracts import NAME_SLOT, Fact, UserError, stable_hash
from unierase_cli.metrics.entity import mentions
from unierase_cli.revealing.targets import Target
from unierase_cli.store.jsonl import read_asset
from unierase_cli.words import words

SEEDS = "reveal_instructions.jsonl"
QUESTION, LIST, TEXT = "question", "list", "text"
OWN, RAW = "own", "raw"
# Text in quotes names something of another person (a book), so the question makes no sense about the target.
QUOTED = re.compile(r"[\"“”«»]|(?<!\w)['‘]\w")
# Share of common words among all words of two questions from which they are near repeats.
ALIKE = 0.6


@dataclass(frozen=True)
class Instruction:
    """``text`` has ``__NAME__`` in place of the target.

    ``form``: question (the answer is a fact), list (of questions and answers) or text. ``prompt``: own (the model's own
    prompt) or raw (a text to continue). ``origin``: seed, retain, random or bandit. ``kind``: of the targets it is for.
    """

    id: str
    text: str
    kind: str
    form: str = QUESTION
    prompt: str = OWN
    origin: str = "seed"

    def about(self, name: str) -> str:
        """The instruction for one target."""
        return self.text.replace(NAME_SLOT, name)


def seeds(kind: str, prompts: Sequence[str]) -> list[Instruction]:
    """The shipped instructions for targets of a kind that are given in one of the ``prompts``."""
    rows = [row for row in read_asset(SEEDS) if row["kind"] == kind and row.get("prompt", OWN) in prompts]
    return [
        Instruction(f"seed-{kind}-{number:02d}", row["text"], kind, row["form"], row.get("prompt", OWN))
        for number, row in enumerate(rows)
    ]


def from_retain(facts: Sequence[Fact], targets: Sequence[Target], count: int, kind: str, seed: int) -> list[Instruction]:
    """``count`` questions about others as questions about anybody: the most frequent wordings first, near repeats once.

    The name is the fact's group, else its subject, as far as it is in the question. Raises UserError for a fact that
    mentions a target: what is to be forgotten cannot be retained, and it would be forget data.
    """
    for target in targets:
        for fact in facts:
            if mentions(f"{fact.question} {fact.answer}", target.name):
                raise UserError(
                    f"reveal.retain_path: {fact.id} mentions the target {target.name!r}: {fact.question[:60]!r}",
                    "remove such rows: the retain text must be about others",
                )
    found: Counter[str] = Counter()
    for fact in facts:
        other = next((n for n in (fact.group, fact.subject) if n and n in fact.question), None)
        text = "" if other is None else fact.question.replace(other, NAME_SLOT)
        if text.count(NAME_SLOT) == 1 and not QUOTED.search(text):
            found[text] += 1
    ranked = sorted(found, key=lambda text: (-found[text], stable_hash(seed, "retain question", text)))
    kept: dict[str, frozenset[str]] = {}
    for text in ranked:
        said = frozenset(words(text))
        if len(kept) < count and not any(len(said & other) >= ALIKE * len(said | other) for other in kept.values()):
            kept[text] = said
    return [Instruction(f"retain-{number:03d}", text, kind, origin="retain") for number, text in enumerate(kept)]
