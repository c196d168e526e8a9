"""Asks a model the questions of a split and records its answers as observations, the input of every metric."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from unierase_cli.config.sections.evaluation import ProtocolConfig
from unierase_cli.contracts import AnswerScore, Fact, Observation, UserError, continuing
from unierase_cli.inference.batching import choose_batch_size, length_sorted
from unierase_cli.inference.generate import Generated, answer_text, generate
from unierase_cli.inference.logprobs import score_answers
from unierase_cli.inference.texts import decoded, start_of
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.prompts import AnswerTokens


@dataclass(frozen=True)
class Asked:
    """A fact's prompt; ``prompt_ids`` ends with ``prefix_ids``, the answer tokens given away (usually none)."""

    fact: Fact
    question: str
    text: str
    prompt_ids: list[int]
    prefix_ids: list[int]
    answer: AnswerTokens

    @property
    def prompt_hash(self) -> str:
        return hashlib.sha256(" ".join(map(str, self.prompt_ids)).encode("ascii")).hexdigest()[:16]


def ask(loaded: LoadedModel, facts: Sequence[Fact], variant: str, protocol: ProtocolConfig) -> list[Asked]:
    """Render and encode the prompts of a variant, in the order of ``facts``.

    ``paraphrased`` skips facts without a paraphrased question. ``answer_prefix`` gives away ``protocol.prefix_tokens``
    tokens of the true answer, or what ``start_of`` gives in their place. Raises UserError that names a fact whose
    question does not fit the model's context.
    """
    asked = []
    for fact in facts:
        question = fact.paraphrased_question if variant == "paraphrased" else fact.question
        if question is None:
            continue
        try:
            prompt = loaded.prompts.prompt(question, fact.kind)
        except UserError as error:
            raise UserError(f"fact {fact.id}: {error.message}", error.hint) from error
        answer = loaded.prompts.answer(fact.answer, style=fact.kind)
        prefix_ids = start_of(loaded, answer, protocol.prefix_tokens) if variant == "answer_prefix" else []
        asked.append(Asked(fact, question, prompt.text, [*prompt.ids, *prefix_ids], prefix_ids, answer))
    return asked


def plan_batches(asked: Sequence[Asked], batch_size: int, device_type: str) -> list[list[int]]:
    """Batches of similar expected length: the prompt plus the true answer, a typical length of answers."""
    lengths = [len(row.prompt_ids) + len(row.answer.ids) for row in asked]
    return length_sorted(lengths, choose_batch_size(batch_size, device_type))


def observe(
    loaded: LoadedModel,
    asked: Sequence[Asked],
    batches: Sequence[Sequence[int]],
    *,
    split: str,
    variant: str,
    protocol: ProtocolConfig,
    wrong_answers: bool = False,
) -> Iterator[list[Observation]]:
    """Yield one list of observations per batch, in batch order, as soon as the batch is done.

    ``plain`` scores the true answer and, with ``wrong_answers``, the paraphrased and wrong ones too; the other variants
    only generate.
    """
    for batch in batches:
        rows = [asked[i] for i in batch]
        scores: list[dict[str, list[AnswerScore]]] = [{} for _ in rows]
        known: list[list[int]] | None = None
        if variant == "plain":
            scores = _scores(loaded, rows, wrong_answers, protocol.total_tokens)
            # Scoring has shown how much of the true answer greedy decoding says. In a lower precision, one pass over an
            # answer and one per token round too differently to take the one for the other.
            if loaded.model.dtype == torch.float32:
                known = [_said(found["true"][0]) for found in scores]
        generated = generate(
            loaded,
            [row.prompt_ids for row in rows],
            max_new_tokens=protocol.max_new_tokens,
            total_tokens=protocol.total_tokens,
            forbid=loaded.unlearn_ids if variant == "unlearn_forbidden" else None,
            once=variant == "unlearn_once",
            known=known,
            batch_size=len(rows),
        )
        yield [
            _observation(loaded, row, found, answers, split, variant)
            for row, found, answers in zip(rows, generated, scores, strict=True)
        ]


def _said(score: AnswerScore) -> list[int]:
    """The answer's first tokens, as long as each is the most probable one after those before it."""
    count = score.is_argmax.index(False) if False in score.is_argmax else len(score.is_argmax)
    return score.token_ids[:count]


def _scores(
    loaded: LoadedModel, rows: Sequence[Asked], wrong_answers: bool, total_tokens: int
) -> list[dict[str, list[AnswerScore]]]:
    """Scores of each row's answers under ``true``, ``paraphrased`` and ``wrong``."""
    items: list[tuple[list[int], list[int]]] = []
    places: list[tuple[int, str, int]] = []
    for place, row in enumerate(rows):
        texts = [("true", row.fact.answer)]
        if wrong_answers:
            texts += [("paraphrased", row.fact.paraphrased_answer)] if row.fact.paraphrased_answer else []
            texts += [("wrong", text) for text in row.fact.wrong_answers]
        for kind, text in texts:
            answer = row.answer if kind == "true" else loaded.prompts.answer(continuing(row.fact, text), style=row.fact.kind)
            items.append((row.prompt_ids, answer.ids))
            places.append((place, kind, answer.own))
    found: list[dict[str, list[AnswerScore]]] = [{} for _ in rows]
    scored = score_answers(loaded, items, total_tokens=total_tokens, batch_size=len(rows))
    for (place, kind, own), score in zip(places, scored, strict=True):
        found[place].setdefault(kind, []).append(replace(score, spaces=max(0, score.length - own)))
    return found


def _observation(
    loaded: LoadedModel,
    row: Asked,
    found: Generated,
    answers: dict[str, list[AnswerScore]],
    split: str,
    variant: str,
) -> Observation:
    return Observation(
        fact_id=row.fact.id,
        row_hash=row.fact.row_hash,
        prompt_hash=row.prompt_hash,
        split=split,
        variant=variant,
        question=row.question,
        reference=row.fact.answer,
        generated_ids=found.ids,
        text=answer_text(loaded, found, before=row.prefix_ids),
        raw_text=answer_text(loaded, found, skip_special=False, before=row.prefix_ids),
        stop=found.stop,
        given_prefix=decoded(loaded, row.prefix_ids, skip_special=True),
        answers=answers,
        # After a given prefix, the first generated position is not the answer's first.
        first_unlearn_probability=None if row.prefix_ids else found.first_unlearn_probability,
        first_is_unlearn=bool(found.ids) and found.ids[0] in loaded.unlearn_ids,
        long_answer=row.fact.long_answer,
    )
