"""Teacher-forced scores of given answers: per token its log-probability and what min-k++ needs of the distribution.

Answers to one prompt share it: all of the prompt but its last token is run once and its attention memory copied to the rows of
its answers, so that seven answers cost one prompt. Only positions that predict an answer token go through the head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import DynamicCache

from unierase_cli.contracts import AnswerScore, UserError
from unierase_cli.inference.batching import choose_batch_size, restored
from unierase_cli.inference.generate import check_room
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.partial import pad_sequences

# Elements of one piece of logits [positions, vocabulary]: 64 MiB in float32.
PIECE = 1 << 24
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

    Log-probabilities are natural, taken in float32 and rounded to 1e-7. An answer that does not fit the model's context, or
    ``total_tokens`` with its prompt, is cut; then ``ends`` is False.
    Raises UserError when a prompt leaves no room in the context, or when the logits are not numbers.
    """
    context = loaded.prompts.max_length
    check_room([len(prompt) for prompt, _ in items], context)
    room = min([limit for limit in (context, total_tokens or None) if limit is not None], default=1 << 30)
    answers = [list(answer[: max(1, room - len(prompt))]) for prompt, answer in items]
    batches = _batches(items, answers, choose_batch_size(batch_size, loaded.device.type, scoring=True))
    results = []
    for batch in batches:
        statistics = _run(loaded, [items[i][0] for i in batch], [answers[i] for i in batch])
        scores = []
        for index, rows in zip(batch, statistics, strict=True):
            log_probs, is_argmax, mean, variance = rows
            whole = len(answers[index]) == len(items[index][1])
            scores.append(AnswerScore(answers[index], log_probs, is_argmax, mean, variance, ends=whole))
        results.append(scores)
        if progress is not None:
            progress(len(batch))
    return restored(batches, results)


def _batches(items: Sequence[Item], answers: Sequence[Sequence[int]], size: int) -> list[list[int]]:
    """Indices in batches of about ``size`` answers, longest first; the answers of one prompt stay together."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, (prompt, _) in enumerate(items):
        groups.setdefault(tuple(prompt), []).append(index)
    order = sorted(groups.values(), key=lambda g: (-len(items[g[0]][0]) - max(len(answers[i]) for i in g), g[0]))
    batches: list[list[int]] = []
    for group in order:
        if batches and len(batches[-1]) + len(group) <= size:
            batches[-1] += group
        else:
            batches.append(list(group))
    return batches


Statistics = tuple[list[float], list[bool], list[float], list[float]]


def _run(loaded: LoadedModel, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> list[Statistics]:
    """The statistics of every answer's tokens."""
    pad, device, backbone = loaded.prompts.pad_id, loaded.device, loaded.architecture.backbone
    # The suffix starts with the prompt's last token, which predicts the first answer token.
    suffix = pad_sequences([[p[-1], *a[:-1]] for p, a in zip(prompts, answers, strict=True)], pad, device)
    starts = torch.tensor([len(p) - 1 for p in prompts], device=device)
    cache, mask = DynamicCache(), suffix.mask
    if int(starts.max()) > 0:
        distinct = list(dict.fromkeys(tuple(p[:-1]) for p in prompts))
        prefix = pad_sequences(distinct, pad, device, left=True)
        backbone(
            input_ids=prefix.ids,
            attention_mask=prefix.mask,
            position_ids=prefix.positions,
            past_key_values=cache,
            use_cache=True,
        )
        place = {p: i for i, p in enumerate(distinct)}
        owner = torch.tensor([place[tuple(p[:-1])] for p in prompts], device=device)
        cache.batch_select_indices(owner)
        mask = torch.cat([prefix.mask[owner], suffix.mask], dim=1)
    hidden = backbone(
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
    vocabulary = loaded.architecture.head.weight.shape[0]
    step = max(1, PIECE // vocabulary)
    pieces: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    for start in range(0, len(targets), step):
        logits = loaded.architecture.logits(hidden[start : start + step]).float()
        wanted = targets[start : start + step].to(logits.device)
        log_p = torch.log_softmax(logits, dim=-1)
        weighted = log_p.exp().mul_(log_p)
        mean = weighted.sum(-1)
        second = weighted.mul_(log_p).sum(-1)
        chosen = log_p.gather(1, wanted[:, None])[:, 0]
        pieces.append((chosen, logits.argmax(-1) == wanted, mean, (second - mean**2).clamp(min=0)))
    log_probs, is_argmax, means, variances = (torch.cat(column) for column in zip(*pieces, strict=True))
    if bool(log_probs.isnan().any()):
        raise UserError(
            "the model's log-probabilities are not numbers (NaN)",
            "its weights are damaged or overflow: try model.dtype=float32",
        )
    return _rounded(log_probs), is_argmax.tolist(), _rounded(means), _rounded(variances)


def _rounded(values: Tensor) -> list[float]:
    return [round(value, DIGITS) for value in values.tolist()]
