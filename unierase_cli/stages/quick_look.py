"""A quick look at a model while a method trains it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from unierase_cli.contracts import Benchmark, evenly_spaced
from unierase_cli.metrics.rouge import rouge_l_recall

if TYPE_CHECKING:
    from unierase_cli.models.load import LoadedModel

# Rows that are asked of the forget set and of the retain set each.
LOOKED_AT = 24


def quick_look(loaded: LoadedModel, benchmark: Benchmark) -> Callable[[], dict[str, float]]:
    """ROUGE-L recall of greedy answers on a few forget rows and a few rows that a method may see, each time it is called."""
    from unierase_cli.inference.generate import generate

    parts = {"forget": benchmark.forget, "retain": benchmark.protect}
    rows = {name: evenly_spaced(facts, LOOKED_AT) for name, facts in parts.items() if facts}

    def evaluate() -> dict[str, float]:
        scores = {}
        for name, facts in rows.items():
            prompts = [loaded.prompts.prompt(fact.question).ids for fact in facts]
            longest = max(len(loaded.prompts.answer_ids(fact.answer)) for fact in facts)
            answers = generate(loaded, prompts, max_new_tokens=longest + 8)
            texts = [
                loaded.prompts.said(str(loaded.tokenizer.decode(answer.ids, skip_special_tokens=True)), answer.stop)
                for answer in answers
            ]
            scores[name] = sum(rouge_l_recall(text, fact.answer) for text, fact in zip(texts, facts, strict=True)) / len(facts)
        return scores

    return evaluate
