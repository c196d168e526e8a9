"""Free embeddings in a prompt: tokens of no vocabulary, whose vectors are trained while the model stays as it is.

Inside ``soft_tokens`` ids from the size of the embedding on stand for rows of ``vectors``, so that prompts that hold them can be
asked, scored and trained on like any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from unierase_cli.contracts import Fact, UserError
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.partial import pad_sequences
from unierase_cli.models.prompts import Prompt
from unierase_cli.training.supervised import Example


@contextmanager
def soft_tokens(loaded: LoadedModel, vectors: Tensor) -> Iterator[None]:
    """Inside, id ``first_soft(loaded) + i`` is embedded as ``vectors[i]``; ``vectors``: [n, h], of the embedding's output."""
    module, first = loaded.architecture.embedding, first_soft(loaded)
    seen: list[Tensor] = []

    def known(_module: Any, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        seen.append(arguments[0])
        return (arguments[0].masked_fill(arguments[0] >= first, 0), *arguments[1:])

    def replaced(_module: Any, _arguments: Any, output: Tensor) -> Tensor | None:
        ids = seen.pop()
        soft = ids >= first
        if not bool(soft.any()):
            return None
        own = vectors.to(output)[(ids - first).clamp(min=0)]
        return torch.where(soft[..., None], own, output)

    hooks = [module.register_forward_pre_hook(known), module.register_forward_hook(replaced)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def first_soft(loaded: LoadedModel) -> int:
    """The first id that is no token's."""
    return int(loaded.architecture.embedding.weight.shape[0])


def soft_ids(loaded: LoadedModel, place: int, count: int) -> list[int]:
    """The ids of the ``count`` free embeddings number ``place``, when each has as many."""
    first = first_soft(loaded) + place * count
    return list(range(first, first + count))


@torch.no_grad()
def like_text(loaded: LoadedModel, text: str, count: int) -> Tensor:
    """``count`` times the embedding of the text's last token, [count, h] float32: where training starts."""
    token = loaded.prompts.encoder.encode(text, [(0, len(text))])[0][-1]
    embedded = loaded.architecture.embedding(torch.tensor([token], device=loaded.device))
    return embedded.float().repeat(count, 1)


def in_front(loaded: LoadedModel, fact: Fact, soft: Sequence[int]) -> Prompt:
    """The fact's prompt with free embeddings in front of its question. Raises UserError if that does not fit the context."""
    prompt = loaded.prompts.prompt(fact.question, fact.kind)
    place, _ = loaded.prompts.token_span(prompt, *prompt.question_span)
    return _with(loaded, prompt, place, soft)


def behind(loaded: LoadedModel, fact: Fact, soft: Sequence[int]) -> Prompt:
    """The fact's prompt with free embeddings after its question. Raises UserError if that does not fit the context."""
    prompt = loaded.prompts.prompt(fact.question, fact.kind)
    _, place = loaded.prompts.token_span(prompt, *prompt.question_span)
    return _with(loaded, prompt, place, soft)


def _with(loaded: LoadedModel, prompt: Prompt, place: int, soft: Sequence[int]) -> Prompt:
    """A prompt with further ids; its offsets stay those of the text."""
    ids, room = [*prompt.ids[:place], *soft, *prompt.ids[place:]], loaded.prompts.max_length
    if room is not None and len(ids) >= room:
        raise UserError(
            f"a prompt of {len(ids)} tokens does not fit the model's context of {room}", "ask for fewer free embeddings"
        )
    return replace(prompt, ids=ids)


def labelled(loaded: LoadedModel, batch: Sequence[Example]) -> tuple[Tensor, Tensor, Tensor]:
    """Logits [N, V] where an answer's token is predicted, these tokens [N], and the example that each belongs to [N]."""
    padded = pad_sequences([[*e.prompt_ids, *e.answer_ids] for e in batch], loaded.prompts.pad_id, loaded.device)
    hidden = loaded.architecture.backbone(
        input_ids=padded.ids, attention_mask=padded.mask, position_ids=padded.positions, use_cache=False
    ).last_hidden_state
    places = [(row, len(e.prompt_ids) - 1 + n) for row, e in enumerate(batch) for n in range(len(e.answer_ids))]
    owner, place = torch.tensor(places, device=hidden.device).T
    logits = loaded.architecture.logits(hidden[owner, place]).float()
    targets = torch.tensor([token for e in batch for token in e.answer_ids], device=logits.device)
    return logits, targets, owner.to(logits.device)


def mean_losses(logits: Tensor, targets: Tensor, owner: Tensor) -> Tensor:
    """Mean cross-entropy of every example's answer, nats per token, [B]."""
    losses = cross_entropy(logits, targets, reduction="none")
    count = int(owner.max()) + 1
    sums = losses.new_zeros(count).index_add(0, owner, losses)
    return sums / torch.bincount(owner, minlength=count)
