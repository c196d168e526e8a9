"""A quick evaluation of a model during training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from unierase_cli.contracts import Benchmark, Fact, evenly_spaced

if TYPE_CHECKING:
    from unierase_cli.models.load import LoadedModel

# Number of rows asked from the forget set and from the retain set.
LOOKED_AT = 24


def quick_look(loaded: LoadedModel, benchmark: Benchmark) -> Callable[[], dict[str, float]]:
    """A function that evaluates ROUGE-L recall (see ``recall_or_match``) on a few forget rows and a few protected rows."""
    parts = {"forget": benchmark.forget, "retain": benchmark.protect}
    rows = {name: evenly_spaced(facts, LOOKED_AT) for name, facts in parts.items() if facts}

    from unierase_cli.metrics.rouge import recall_or_match

    def evaluate() -> dict[str, float]:
        scores = {}
        for name, facts in rows.items():
            pairs = zip(generate_texts(loaded, facts), facts, strict=True)
            scores[name] = sum(recall_or_match(text, fact.answer) for text, fact in pairs) / len(facts)
        return scores

    return evaluate


def generate_texts(loaded: LoadedModel, facts: Sequence[Fact], *, skip_special: bool = True) -> list[str]:
    """Greedy answers, slightly longer than the longest true answer at most."""
    from unierase_cli.inference.generate import answer_text, generate

    prompts = [loaded.prompts.prompt(fact.question, fact.kind).ids for fact in facts]
    longest = max(len(loaded.prompts.answer_ids(fact.answer, style=fact.kind)) for fact in facts)
    found = generate(loaded, prompts, max_new_tokens=longest + 8)
    return [answer_text(loaded, said, skip_special=skip_special) for said in found]
