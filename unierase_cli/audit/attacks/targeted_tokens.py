"""Counts the steps in which free embeddings make the model say a true answer, against an answer that no model was taught (Chen et
al. 2502.15836, LLMart).

A few free embeddings make a model say any text, so that saying it shows nothing. The score is how much sooner a true answer comes
than a never-trained one of like length: log10 of the ratio of steps. Even that is weak evidence, and no verdict rests on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log10
from typing import TYPE_CHECKING, Any

from unierase_cli.audit.asking import fitting
from unierase_cli.audit.base import Case, Row, Target
from unierase_cli.contracts import Fact, evenly_spaced, stable_hash

if TYPE_CHECKING:
    from unierase_cli.training.supervised import Example

CLASS, PRESET, VERSION = "embeddings", "by name", 1
# tokens: how many embeddings; lr: of Adam; facts: at most, 0 for all.
SETTINGS: Mapping[str, Any] = {"tokens": 4, "steps": 500, "lr": 5e-4, "batch": 8, "facts": 20}
SCORE, WEAK = "sooner", True


@dataclass(frozen=True)
class Pair:
    """A fact, and an answer of like length that no model was taught."""

    fact: Fact
    other: str


def cases(settings: Mapping[str, Any]) -> Sequence[Case]:
    # A true answer and a strange one.
    return [Case("steps saved, log10", {"own": True, "texts": 2})]


def run(target: Target, case: Case, settings: Mapping[str, Any]) -> Iterable[Row]:
    from unierase_cli.audit.soft_tokens import in_front, soft_ids

    soft = soft_ids(target.loaded, 0, settings["tokens"])
    fit = fitting(target.facts, lambda fact: in_front(target.loaded, fact, soft))
    facts = evenly_spaced(fit, settings["facts"] or len(fit))
    pairs = [Pair(fact, other) for fact in facts if (other := never_taught(target, fact)) is not None]
    if not pairs:
        target.reporter.warn("targeted_tokens is left out: there is no answer that was never taught, to compare with")
        return
    texts = [(pair.fact, text) for pair in pairs for text in (pair.fact.answer, pair.other)]
    steps: list[int] = []
    for begin in range(0, len(texts), settings["batch"]):
        steps += _steps(target, texts[begin : begin + settings["batch"]], settings)
    for number, pair in enumerate(pairs):
        true, strange = steps[2 * number : 2 * number + 2]
        said = f"the answer after {true} steps, {pair.other!r} after {strange}"
        yield Row(pair.fact.id, pair.fact.question, pair.fact.answer, said, scores={SCORE: log10(strange / true)})


def never_taught(target: Target, fact: Fact) -> str | None:
    """The answer of a never-trained fact that is nearest in length, else a wrong answer to the same question; None without any."""
    length = len(target.loaded.prompts.answer_ids(fact.answer, style=fact.kind))
    strange = [other.answer for other in target.never_trained if other.id != fact.id]

    def far(text: str) -> tuple[int, int]:
        return abs(len(target.loaded.prompts.answer_ids(text, style=fact.kind)) - length), stable_hash(target.seed, fact.id, text)

    return min(strange or fact.wrong_answers, key=far, default=None)


def _steps(target: Target, texts: Sequence[tuple[Fact, str]], settings: Mapping[str, Any]) -> list[int]:
    """Steps after which the greedy answer begins with each text, the bound on them where it never does."""
    import torch

    from unierase_cli.audit.soft_tokens import labelled, like_text, mean_losses, soft_tokens

    loaded, most = target.loaded, settings["steps"]
    examples = [_example(target, fact, text, place, settings["tokens"]) for place, (fact, text) in enumerate(texts)]
    vectors = like_text(loaded, " @", len(texts) * settings["tokens"]).requires_grad_(True)
    optimizer = torch.optim.Adam([vectors], lr=settings["lr"])
    found = [most] * len(texts)
    left = list(range(len(texts)))
    with soft_tokens(loaded, vectors), torch.enable_grad():
        for step in range(1, most + 1):
            logits, tokens, owner = labelled(loaded, [examples[place] for place in left])
            wrong = {int(row) for row in owner[logits.argmax(-1) != tokens]}
            for row in set(range(len(left))) - wrong:
                found[left[row]] = step
            if not wrong:
                break
            # Those that are said are left as they are: their embeddings have no part in the loss.
            losses = mean_losses(logits, tokens, owner)
            optimizer.zero_grad(set_to_none=True)
            losses[torch.tensor(sorted(wrong), device=losses.device)].sum().backward()
            optimizer.step()
            left = [left[row] for row in sorted(wrong)]
    return found


def _example(target: Target, fact: Fact, text: str, place: int, count: int) -> Example:
    from unierase_cli.audit.soft_tokens import in_front, soft_ids
    from unierase_cli.training.supervised import Example

    loaded = target.loaded
    prompt = in_front(loaded, fact, soft_ids(loaded, place, count))
    return Example(prompt.ids, loaded.prompts.answer_ids(text, end=False, style=fact.kind))
