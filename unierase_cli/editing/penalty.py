"""The smallest alpha that leaves the first answer tokens of held-out questions as they were (``edit.keep_first``).

How much an edit spreads depends on the model: behind a norm, what is written has to be large (``reach``). So alpha is not
guessed: after the search for z, which takes nearly all the time and does not depend on alpha, the change is written with one alpha
after another until the model answers held-out questions with the same first tokens as before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from unierase_cli.config.sections.edit import EditConfig
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.partial import length_sorted_batches, pad_sequences
from unierase_cli.sizes import pass_tokens

# Alphas tried: the configured one, then each this many times the last one.
FACTOR, TRIES = 3.0, 5
Written = TypeVar("Written")


@dataclass(frozen=True)
class Trial:
    """An alpha, and the share of held-out questions whose first answer token stayed."""

    alpha: float
    kept: float


@torch.no_grad()
def first_tokens(loaded: LoadedModel, prompts: Sequence[Sequence[int]]) -> Tensor:
    """The most likely token after each prompt with the current weights, [n]."""
    out = torch.zeros(len(prompts), dtype=torch.long)

    def look(rows: Sequence[int]) -> Tensor:
        batch = pad_sequences([prompts[i] for i in rows], loaded.prompts.pad_id, loaded.device, left=True)
        hidden = loaded.architecture.backbone(
            input_ids=batch.ids, attention_mask=batch.mask, position_ids=batch.positions, use_cache=False
        ).last_hidden_state
        return loaded.architecture.logits(hidden[:, -1]).argmax(-1).cpu()

    for batch in length_sorted_batches([len(prompt) for prompt in prompts], pass_tokens(loaded.device.type == "cpu")):
        for rows, found in loaded.room.parts("held-out questions to look at", batch, look):
            out[list(rows)] = found
    return out


def with_least_alpha(
    loaded: LoadedModel,
    config: EditConfig,
    prompts: Sequence[Sequence[int]],
    write: Callable[[EditConfig], Written],
    undo: Callable[[], None],
) -> tuple[Written, list[Trial]]:
    """What ``write`` returns for the smallest alpha that keeps ``config.keep_first`` of the first tokens after ``prompts``.

    If none does, the alpha that keeps the most is used. ``undo`` takes back what ``write`` did. Also returns all trials in order.
    """
    assert config.keep_first is not None
    before = first_tokens(loaded, prompts)
    trials: list[Trial] = []
    for step in range(TRIES):
        alpha = config.alpha * FACTOR**step
        written = write(replace(config, alpha=alpha))
        trials.append(Trial(alpha, float((first_tokens(loaded, prompts) == before).double().mean())))
        if trials[-1].kept >= config.keep_first:
            return written, trials
        undo()
    # Of equally good ones the smallest alpha, which forgets the most.
    best = max(trials, key=lambda trial: (trial.kept, -trial.alpha))
    return write(replace(config, alpha=best.alpha)), trials
