"""How attacks ask: prompts, answer tokens that are given away, tokens that are forbidden, answers that are drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from math import exp
from typing import TYPE_CHECKING

from unierase_cli.audit.base import FORGET, PROBABILITY, Row, Target
from unierase_cli.contracts import Fact, UserError

if TYPE_CHECKING:
    from unierase_cli.models.prompts import Prompt

# The prompt of a fact; the tokens that its answer begins with, given away.
PromptOf = Callable[[Fact], "Prompt"]
GivenTo = Callable[[Fact], Sequence[int]]


def answers(
    target: Target,
    facts: Sequence[Fact],
    *,
    prompt: PromptOf | None = None,
    given: GivenTo | None = None,
    part_of_answer: bool = False,
    forbid: bool = False,
    once: bool = False,
    drawn: Callable[[Fact], Sequence[float]] | None = None,
    split: str = FORGET,
    sample: int = 0,
    total_tokens: int | None = None,
    probability: bool = False,
) -> list[Row]:
    """One row per fact, in order: greedy answers, or with ``drawn`` those of its numbers (see ``inference.generate``).

    ``prompt``: the plain question without it. ``given``: tokens that the answer is made to begin with; ``part_of_answer``: they
    are the true answer's, whose remainder alone is the reference. ``forbid``: no unlearning token is ever chosen; ``once``: one at
    most. ``total_tokens``: the bound on prompt and answer together, 0 for none; by default the protocol's. ``probability``:
    score the true answers after the same prompts, too. Raises UserError naming a fact whose prompt does not fit.
    """
    from unierase_cli.inference.generate import answer_text, generate
    from unierase_cli.inference.texts import decoded

    loaded, protocol = target.loaded, target.protocol
    prompts = [_rendered(target, fact, prompt) for fact in facts]
    starts = [list(given(fact)) if given else [] for fact in facts]
    found = generate(
        loaded,
        [[*asked.ids, *start] for asked, start in zip(prompts, starts, strict=True)],
        max_new_tokens=protocol.max_new_tokens,
        total_tokens=protocol.total_tokens if total_tokens is None else total_tokens,
        forbid=target.token_ids if forbid else None,
        once=once,
        draws=[drawn(fact) for fact in facts] if drawn else None,
        batch_size=target.batch_size,
    )
    scores: list[dict[str, float]] = [{} for _ in facts]
    if probability:
        true = [loaded.prompts.answer_ids(fact.answer, style=fact.kind) for fact in facts]
        items = [(asked.ids, answer) for asked, answer in zip(prompts, true, strict=True)]
        scores = [{PROBABILITY: value} for value in answer_probabilities(target, items)]
    rows = []
    for fact, asked, start, said, more in zip(facts, prompts, starts, found, scores, strict=True):
        text = decoded(loaded, start, skip_special=True)
        left = _remainder(target, fact, start) if part_of_answer else fact.answer
        question = asked.text[slice(*asked.question_span)]
        rows.append(Row(fact.id, question, left, answer_text(loaded, said, before=start), text, sample, split, scores=more))
    return rows


def answer_probabilities(target: Target, items: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[float]:
    """exp(-mean loss) of every answer, end token included, after its prompt; items are (prompt ids, answer ids)."""
    from unierase_cli.inference.logprobs import score_answers

    found = score_answers(target.loaded, items, total_tokens=target.protocol.total_tokens, batch_size=target.batch_size)
    return [exp(-score.average_loss) for score in found]


def fitting(facts: Sequence[Fact], prompt: PromptOf) -> list[Fact]:
    """The facts whose prompts fit the model's context: a context that is too short says nothing about what is known."""
    found = []
    for fact in facts:
        with suppress(UserError):
            prompt(fact)
            found.append(fact)
    return found


def first_tokens(target: Target, fact: Fact, count: int) -> list[int]:
    """The first ``count`` tokens of the true answer, or what ``start_of`` gives in their place."""
    from unierase_cli.inference.texts import start_of

    return start_of(target.loaded, target.loaded.prompts.answer(fact.answer, style=fact.kind), count)


def _remainder(target: Target, fact: Fact, start: Sequence[int]) -> str:
    """What of the true answer was not given away."""
    from unierase_cli.inference.texts import decoded

    answer = target.loaded.prompts.answer(fact.answer, style=fact.kind)
    head, whole = (decoded(target.loaded, ids, skip_special=True) for ids in (start, answer.ids[: answer.own]))
    return whole[len(head) :].strip() if whole.startswith(head) else fact.answer


def _rendered(target: Target, fact: Fact, prompt: PromptOf | None) -> Prompt:
    try:
        return prompt(fact) if prompt else target.loaded.prompts.prompt(fact.question, fact.kind)
    except UserError as error:
        raise UserError(f"fact {fact.id}: {error.message}", error.hint) from error
