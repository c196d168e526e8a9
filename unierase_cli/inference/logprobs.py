"""Teacher-forced scores of given answers: each token's log-probability and the statistics for min-k++.

Answers to the same prompt share it: all of the prompt but its last token is run once and its KV cache copied to its
answers' rows, so that seven answers cost one prompt. Answers of similar length run together. Only positions that
predict an answer token go through the head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from transformers import Cache

from unierase_cli.contracts import AnswerScore, UserError
from unierase_cli.inference.batching import choose_batch_size, length_sorted
from unierase_cli.inference.cache import copied_rows, growing_cache
from unierase_cli.inference.generate import check_room
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.partial import pad_sequences
from unierase_cli.sizes import CPU_SCORED_TOKENS, SCORED_POSITIONS, STATISTIC_VALUES

DIGITS = 7

Item = tuple[Sequence[int], Sequence[int]]


@torch.no_grad()
def score_answers(
    loaded: LoadedModel,
    items: Sequence[Item],
    *,
    total_tokens: int = 0,
    batch_size: int = 0,
    progress: Callable[..., None] | None = None,
) -> list[AnswerScore]:
    """Score (prompt ids, answer ids) pairs, in the order given; an answer includes its end token.

    Log-probabilities are in nats, computed in float32 and rounded to 1e-7. An answer that does not fit the model's
    context, or ``total_tokens`` with its prompt, is cut; then ``ends`` is False. Raises UserError if a prompt leaves no
    room in the context, or if the logits are NaN.
    """
    context = loaded.prompts.max_length
    check_room([len(prompt) for prompt, _ in items], context)
    room = min([limit for limit in (context, total_tokens or None) if limit is not None], default=1 << 30)
    answers = [list(answer[: max(1, room - len(prompt))]) for prompt, answer in items]
    size = choose_batch_size(batch_size, loaded.device.type)
    rows = choose_batch_size(batch_size, loaded.device.type, scoring=True)
    tokens = CPU_SCORED_TOKENS if loaded.device.type == "cpu" else None
    scores: list[AnswerScore | None] = [None] * len(items)

    def score_group(group: Sequence[int]) -> None:
        memory = _Memory(loaded, [items[i][0] for i in group])
        for batch in _by_length(group, answers, rows, tokens):
            for part, found in loaded.room.parts("answers to score", batch, partial(score_batch, memory)):
                for index, statistics in zip(part, found, strict=True):
                    whole = len(answers[index]) == len(items[index][1])
                    scores[index] = AnswerScore(answers[index], *statistics, ends=whole)

    def score_batch(memory: _Memory, batch: Sequence[int]) -> list[Statistics]:
        return _run(loaded, memory, [items[i][0] for i in batch], [answers[i] for i in batch])

    for group in _prompt_groups(items, answers, size):
        # If single answers do not fit beside the cached prompts, fewer prompts are cached.
        for part, _ in loaded.room.parts("prompts of answers to score", group, score_group):
            if progress is not None:
                progress(len(part))
    return [score for score in scores if score is not None]


def _prompt_groups(items: Sequence[Item], answers: Sequence[Sequence[int]], size: int) -> list[list[int]]:
    """Indices of items, a prompt's answers together, in groups of ``size`` prompts of similar length, longest first."""
    owned: dict[tuple[int, ...], list[int]] = {}
    for index, (prompt, _) in enumerate(items):
        owned.setdefault(tuple(prompt), []).append(index)
    prompts = list(owned.values())
    lengths = [len(items[group[0]][0]) + max(len(answers[i]) for i in group) for group in prompts]
    return [[index for place in batch for index in prompts[place]] for batch in length_sorted(lengths, size)]


def _by_length(group: Sequence[int], answers: Sequence[Sequence[int]], size: int, tokens: int | None) -> list[list[int]]:
    """The group's indices in batches of answers of similar length, of ``size`` rows and ``tokens`` tokens at most."""
    lengths = [len(answers[i]) for i in group]
    batches = [
        batch[start : start + rows]
        for batch in length_sorted(lengths, size)
        for rows in [len(batch) if tokens is None else max(1, tokens // lengths[batch[0]])]
        for start in range(0, len(batch), rows)
    ]
    return [[group[place] for place in batch] for batch in batches]


class _Memory:
    """KV cache of the prompts without their last token, computed once and copied to the rows of their answers."""

    def __init__(self, loaded: LoadedModel, prompts: Sequence[Sequence[int]]) -> None:
        distinct = list(dict.fromkeys(tuple(prompt[:-1]) for prompt in prompts))
        self._places = {prefix: place for place, prefix in enumerate(distinct)}
        self._cache = growing_cache()
        self._mask: Tensor | None = None
        if max(map(len, distinct)) > 0:
            padded = pad_sequences(distinct, loaded.prompts.pad_id, loaded.device, left=True)
            self._mask = padded.mask
            loaded.architecture.backbone(
                input_ids=padded.ids,
                attention_mask=padded.mask,
                position_ids=padded.positions,
                past_key_values=self._cache,
                use_cache=True,
            )

    def of(self, prompts: Sequence[Sequence[int]], suffix_mask: Tensor) -> tuple[Cache, Tensor]:
        """A cache with one row per prompt given, and the mask [B, P + T] of cache and suffix."""
        if self._mask is None:
            return growing_cache(), suffix_mask
        owner = torch.tensor([self._places[tuple(prompt[:-1])] for prompt in prompts], device=self._mask.device)
        return copied_rows(self._cache, owner, suffix_mask.shape[1]), torch.cat([self._mask[owner], suffix_mask], dim=1)


Statistics = tuple[list[float], list[bool], list[float], list[float]]


def _run(
    loaded: LoadedModel, memory: _Memory, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
) -> list[Statistics]:
    """The statistics of every answer's tokens."""
    # The suffix starts with the prompt's last token, which predicts the first answer token.
    rows = [[p[-1], *a[:-1]] for p, a in zip(prompts, answers, strict=True)]
    suffix = pad_sequences(rows, loaded.prompts.pad_id, loaded.device)
    starts = torch.tensor([len(p) - 1 for p in prompts], device=loaded.device)
    cache, mask = memory.of(prompts, suffix.mask)
    hidden = loaded.architecture.backbone(
        input_ids=suffix.ids,
        attention_mask=mask,
        position_ids=suffix.positions + starts[:, None],
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
    labelled = hidden[suffix.mask.to(hidden.device).bool()]
    targets = torch.tensor([token for answer in answers for token in answer], device=labelled.device)
    values = _token_statistics(loaded, labelled, targets)
    ends = torch.tensor([len(a) for a in answers]).cumsum(0).tolist()
    slices = [slice(end - len(a), end) for a, end in zip(answers, ends, strict=True)]
    return [(values[0][s], values[1][s], values[2][s], values[3][s]) for s in slices]


def _token_statistics(loaded: LoadedModel, hidden: Tensor, targets: Tensor) -> Statistics:
    """log p of the targets [N], whether each is the argmax, and mean and variance of log p over the vocabulary.

    ``hidden`` [N, h]. mean = sum_v p log p, variance = sum_v p (log p)^2 - mean^2 (spec: metrics, section 4, min-k++).
    """
    pieces: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    for start in range(0, len(targets), SCORED_POSITIONS):
        logits = loaded.architecture.logits(hidden[start : start + SCORED_POSITIONS])
        wanted = targets[start : start + SCORED_POSITIONS].to(logits.device)
        # All that is asked of a few positions is asked while they are in a CPU's cache.
        rows = max(1, STATISTIC_VALUES // logits.shape[1]) if logits.device.type == "cpu" else len(logits)
        pieces += map(_of_positions, logits.split(rows), wanted.split(rows))
    log_probs, is_argmax, means, variances = (torch.cat(column) for column in zip(*pieces, strict=True))
    if bool(log_probs.isnan().any()):
        raise UserError(
            "the model's log-probabilities are not numbers (NaN)",
            "its weights are damaged or overflow: try model.dtype=float32",
        )
    return _rounded(log_probs), is_argmax.tolist(), _rounded(means), _rounded(variances)


def _of_positions(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The statistics of a few positions from their logits [n, V], which are modified."""
    logits = logits.float()
    log_p = torch.log_softmax(logits, dim=-1)
    weighted = log_p.exp().mul_(log_p)
    mean = weighted.sum(-1)
    second = weighted.mul_(log_p).sum(-1)
    chosen = log_p.gather(1, targets[:, None])[:, 0]
    return chosen, _is_argmax(logits, targets), mean, (second - mean**2).clamp(min=0)


def _is_argmax(logits: Tensor, targets: Tensor) -> Tensor:
    """``logits.argmax(-1) == targets``, [n]; modifies ``logits``. A CPU finds a maximum far faster than its place."""
    best = logits.amax(-1)
    found = logits.gather(1, targets[:, None])[:, 0] == best
    # Of equal maxima, the first one counts.
    tied = found & (logits.scatter_(1, targets[:, None], -torch.inf).amax(-1) == best)
    if bool(tied.any()):
        logits[tied, targets[tied]] = best[tied]
        found[tied] = logits[tied].argmax(-1) == targets[tied]
    return found


def _rounded(values: Tensor) -> list[float]:
    return [round(value, DIGITS) for value in values.tolist()]
