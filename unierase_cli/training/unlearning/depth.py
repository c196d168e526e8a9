"""How well a model knows answers: their negative log-probability per token, and what it is for answers never learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from unierase_cli.contracts import Fact, continuing
from unierase_cli.models.load import LoadedModel
from unierase_cli.training.unlearning.mixed_words import with_others_words
from unierase_cli.training.unlearning.rows import Layout, Row, collate, make_row
from unierase_cli.training.unlearning.said import Said
from unierase_cli.training.unlearning.views import View

CHUNK = 32
PURPOSE = "rows whose answers are scored"


@torch.no_grad()
def mean_nll(loaded: LoadedModel, rows: Sequence[Row], layout: Layout | None = None) -> float:
    """-log p per answer token, averaged over all answer tokens of the rows; nats."""
    total, count = 0.0, 0
    ordered = sorted(rows, key=lambda row: len(row.ids))
    for start in range(0, len(ordered), CHUNK):
        chunk = ordered[start : start + CHUNK]

        def score(part: Sequence[Row]) -> tuple[float, int]:
            nll = View(loaded, collate(part, loaded.prompts.pad_id, loaded.device, layout)).nll
            return float(nll.sum()), nll.numel()

        for _, (summed, size) in loaded.room.parts(PURPOSE, chunk, score):
            total, count = total + summed, count + size
    return total / max(1, count)


def never_learned(loaded: LoadedModel, facts: Sequence[Fact], said: Mapping[str, Said] | None = None) -> list[Row]:
    """Rows with answers that the model never learned: the facts' wrong answers, else their answers with other facts' words.

    With ``said`` (fact id -> the model's own answer), own answers with the words of others: depth is then measured on own
    answers, and their style is likelier than that of the benchmark's.
    """
    prompts = loaded.prompts
    pairs = [(fact, Said(continuing(fact, text), ends=True)) for fact in facts for text in fact.wrong_answers[:1]]
    if said or not pairs:
        true = [said[fact.id] if said else Said(fact.answer, ends=True) for fact in facts]
        mixed = with_others_words([(fact.question, answer.text) for fact, answer in zip(facts, true, strict=True)])
        found = [(f, t.ends, text) for f, t, text in zip(facts, true, mixed, strict=True) if text is not None]
        pairs = [(fact, Said(continuing(fact, text), ends)) for fact, ends, text in found]
    return [
        make_row(
            prompts.prompt(fact.question, fact.kind).ids,
            prompts.answer_ids(answer.text, end=answer.ends, style=fact.kind),
            ends=answer.ends,
        )
        for fact, answer in pairs
    ]


class Divergence:
    """KL(p_before || p_now) per answer token of some rows, in nats; ``before`` is the model when this is made.

    Keeps the final hidden states of the answer tokens, [N, h]; the head must stay the same.
    """

    def __init__(self, loaded: LoadedModel, rows: Sequence[Row], layout: Layout | None = None) -> None:
        self.loaded, self.layout = loaded, layout
        self.chunks = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
        self._before = [self._hidden(chunk) for chunk in self.chunks]

    @torch.no_grad()
    def __call__(self) -> float:
        total, count = 0.0, 0
        for chunk, before in zip(self.chunks, self._before, strict=True):
            now = self._hidden(chunk)
            was, found = (self.loaded.architecture.logits(hidden).float().log_softmax(-1) for hidden in (before, now))
            total += float((was.exp() * (was - found)).sum())
            count += len(now)
        return total / max(1, count)

    @torch.no_grad()
    def _hidden(self, chunk: Sequence[Row]) -> Tensor:
        view = View(self.loaded, collate(chunk, self.loaded.prompts.pad_id, self.loaded.device, self.layout))
        rows, columns = view.batch.places
        return view.hidden[rows, columns - 1]
