"""Generation in length-sorted, left-padded batches: greedy, or by drawn numbers.

``model.generate`` runs a batch at full width until its slowest row ends, so on a CPU one answer that never stops costs
as much as sixty-four. In this loop a finished row leaves the batch at once, and only the last position, once the
answer's first one too, goes through the head. A row's answer does not depend on its neighbours beyond rounding: padding
is masked and positions count from the row's start. A row also ends when its text reaches one of ``loaded.stop_texts``,
which is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from unierase_cli.contracts import UserError
from unierase_cli.inference.batching import choose_batch_size, length_sorted, restored
from unierase_cli.inference.cache import growing_cache, keep_rows
from unierase_cli.inference.texts import before_stop, decoded
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.partial import pad_sequences


@dataclass(frozen=True)
class Generated:
    """A generated answer.

    ``ids`` excludes the end token. ``stop``: end | text (a stop text) | length (of the protocol) | context (of the
    model). ``surplus``: characters at the end of the decoded ``ids`` that belong to a stop text (see
    ``inference.texts``). ``first_unlearn_probability``: total probability of the unlearning tokens at the first
    position, before anything is forbidden; None for a model without any.
    """

    ids: list[int]
    stop: str
    first_unlearn_probability: float | None = None
    surplus: int = 0


def answer_text(
    loaded: LoadedModel, found: Generated, *, skip_special: bool = True, before: Sequence[int] = ()
) -> str:
    """Text of an answer, without the start of a stop text and the template's white space at its end.

    ``before``: answer tokens that were given away, needed because some tokenizers drop the space before the first
    decoded token.
    """
    head, whole = (decoded(loaded, ids, skip_special=skip_special) for ids in (before, [*before, *found.ids]))
    text = whole[len(head) :] if whole.startswith(head) else decoded(loaded, found.ids, skip_special=skip_special)
    return loaded.prompts.said(text[: len(text) - found.surplus], found.stop)


@torch.no_grad()
def generate(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    total_tokens: int = 0,
    forbid: Sequence[int] | None = None,
    once: bool = False,
    draws: Sequence[Sequence[float]] | None = None,
    temperature: float = 1.0,
    known: Sequence[Sequence[int]] | None = None,
    batch_size: int = 0,
) -> list[Generated]:
    """Continue every prompt greedily until one of the model's stop tokens or stop texts, in the order given.

    ``max_new_tokens`` bounds the answer, ``total_tokens`` (0: no bound) prompt and answer together; at least one token
    is generated. ``forbid``: ids that are never chosen. ``once``: a row gets at most one unlearning token. ``draws``:
    ``max_new_tokens`` numbers in [0, 1) per prompt; every token is then sampled at ``temperature``, as the one whose
    share of the cumulative probability contains its number, so that a row's answer does not depend on its neighbours.
    ``known``: the first tokens of every answer where they have been found already (greedily, with nothing forbidden); they are
    run with the prompt.
    Raises UserError if a prompt leaves no room in the model's context, or if the logits are NaN.
    """
    lengths = [len(prompt) for prompt in prompts]
    check_room(lengths, loaded.prompts.max_length)
    batches = length_sorted(lengths, choose_batch_size(batch_size, loaded.device.type))
    results = []

    def decode(rows: Sequence[int]) -> list[Generated]:
        limits = [_limit(lengths[i], max_new_tokens, total_tokens, loaded.prompts.max_length) for i in rows]
        drawn = None if draws is None else [draws[i] for i in rows]
        begun = [[] if known is None else known[i] for i in rows]
        return _Batch(loaded, [prompts[i] for i in rows], limits, list(forbid or []), once, drawn, temperature, begun).run()

    for batch in batches:
        found: list[Generated] = []
        for _, answers in loaded.room.parts("answers to generate", batch, decode):
            found += answers
        results.append(found)
    return restored(batches, results)


def check_room(lengths: Sequence[int], context: int | None) -> None:
    """Raise UserError unless every prompt leaves room for one token in the model's context."""
    longest = max(lengths, default=0)
    if context is not None and longest >= context:
        raise UserError(
            f"a prompt of {longest} tokens does not fit the model's context of {context}",
            "shorten the question or choose a model with a longer context",
        )


def _limit(prompt: int, max_new_tokens: int, total_tokens: int, context: int | None) -> tuple[int, str]:
    """Maximum number of tokens of a row, and the stop reason when it is reached."""
    limit = min(max_new_tokens, total_tokens - prompt) if total_tokens else max_new_tokens
    limit = max(limit, 1)
    return (context - prompt, "context") if context is not None and context - prompt < limit else (limit, "length")


@dataclass
class _Batch:
    """One batch during decoding; ``live`` lists the unfinished rows in tensor order."""

    loaded: LoadedModel
    prompts: list[Sequence[int]]
    limits: list[tuple[int, str]]
    forbid: list[int]
    once: bool
    draws: list[Sequence[float]] | None = None
    temperature: float = 1.0
    known: Sequence[Sequence[int]] = ()
    live: list[int] = field(default_factory=list)
    answers: list[list[int]] = field(default_factory=list)
    stops: list[str] = field(default_factory=list)
    surplus: list[int] = field(default_factory=list)

    def run(self) -> list[Generated]:
        loaded, architecture = self.loaded, self.loaded.architecture
        rows = len(self.prompts)
        self.answers, self.stops, self.surplus = [[] for _ in range(rows)], [""] * rows, [0] * rows
        first: list[float | None] = [None] * rows
        # A row may end within its known tokens; then only the first position's probability is left to be found.
        ended = {row for row, tokens in enumerate(self.known) if not all(self._says(row, token) for token in tokens)}
        self.live = [row for row in range(rows) if loaded.unlearn_ids or row not in ended]
        if not self.live:
            return self._generated(first)
        begun = [[] if row in ended else self.answers[row] for row in self.live]
        sequences = [[*self.prompts[row], *tokens] for row, tokens in zip(self.live, begun, strict=True)]
        padded = pad_sequences(sequences, loaded.prompts.pad_id, loaded.device, left=True)
        ids, mask, positions, cache = padded.ids, padded.mask, padded.positions, growing_cache()
        starts: list[int] | None = [-1 - len(tokens) for tokens in begun]
        while True:
            output = architecture.backbone(
                input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
            )
            hidden = output.last_hidden_state
            if starts is not None and loaded.unlearn_ids:
                before = architecture.logits(hidden[torch.arange(len(starts)), starts]).float()
                first = torch.softmax(before, dim=-1)[:, loaded.unlearn_ids].sum(-1).tolist()
            starts = None
            chosen = self._choose(architecture.logits(hidden[:, -1]).float())
            tokens = chosen.tolist()
            going_on = [p for p, row in enumerate(self.live) if row not in ended and self._says(row, tokens[p])]
            if not going_on:
                break
            positions = positions[:, -1:] + 1
            if len(going_on) < len(self.live):
                order = keep_rows(cache, going_on)
                self.live = [self.live[place] for place in order]
                index = torch.tensor(order, device=mask.device)
                chosen, mask, positions = chosen[index.to(chosen.device)], mask[index], positions[index]
            ids = chosen[:, None].to(mask.device)
            mask = torch.cat([mask, mask.new_ones(len(self.live), 1)], dim=1)
        return self._generated(first)

    def _generated(self, first: Sequence[float | None]) -> list[Generated]:
        return [Generated(*row) for row in zip(self.answers, self.stops, first, self.surplus, strict=True)]

    def _choose(self, logits: Tensor) -> Tensor:
        """The most probable (or the drawn) allowed token of every live row, [B]; modifies ``logits`` [B, V] float32."""
        if self.forbid:
            logits[:, self.forbid] = -torch.inf
        unlearn = set(self.loaded.unlearn_ids)
        done = [place for place, row in enumerate(self.live) if unlearn & set(self.answers[row])] if self.once else []
        if done:
            logits[torch.tensor(done)[:, None], torch.tensor(sorted(unlearn))] = -torch.inf
        best, chosen = logits.max(dim=-1)
        if bool(best.isnan().any()):
            raise UserError(
                "the model's logits are not numbers (NaN)",
                "its weights are damaged or overflow: try model.dtype=float32",
            )
        return chosen if self.draws is None else self._drawn(logits, self.draws)

    def _drawn(self, logits: Tensor, draws: list[Sequence[float]]) -> Tensor:
        """The token in whose share of the probability each row's next number falls, [B]."""
        numbers = [draws[row][len(self.answers[row])] for row in self.live]
        sums = torch.softmax(logits / self.temperature, dim=-1).double().cumsum(-1)
        wanted = torch.tensor(numbers, dtype=torch.float64, device=sums.device)[:, None] * sums[:, -1:]
        return torch.searchsorted(sums, wanted, right=True)[:, 0].clamp(max=sums.shape[-1] - 1)

    def _says(self, row: int, token: int) -> bool:
        """Append a token to the row's answer, unless it ends it; returns whether the row continues."""
        limit, reason = self.limits[row]
        if token in self.loaded.prompts.stop_ids:
            self.stops[row] = "end"
            return False
        self.answers[row].append(token)
        cut = before_stop(self.loaded, self.answers[row])
        if cut is not None:
            self.answers[row], self.surplus[row] = cut
            self.stops[row] = "text"
        elif len(self.answers[row]) >= limit:
            self.stops[row] = reason
        return not self.stops[row]
