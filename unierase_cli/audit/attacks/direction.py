"""The direction from retained to forgotten prompts is removed from every block's output (audit, section 6; Arditi et al. 2024).

The block whose direction is taken is chosen on half of the groups: the one that makes the true answers most probable, among those
that move the next token after retained prompts by less than a limit of KL divergence. Only the other half is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unierase_cli.audit.asking import answer_probabilities, answers
from unierase_cli.audit.base import RETAIN, Case, Row, Target
from unierase_cli.audit.splits import halves
from unierase_cli.contracts import Fact, evenly_spaced
from unierase_cli.models.direction import difference_of_means, without_direction
from unierase_cli.models.partial import length_sorted_batches, pad_sequences, run_lower

CLASS, PRESET, VERSION = "weights", "thorough", 2
# kl: nats that the next token after retained prompts may move. prompts: how many of either kind means are taken over.
SETTINGS: Mapping[str, Any] = {"kl": 0.1, "prompts": 128, "batch_tokens": 2048}


def cases(settings: Mapping[str, Any]) -> Sequence[Case]:
    return [Case("chosen block")]


def run(target: Target, case: Case, settings: Mapping[str, Any]) -> Iterable[Row]:
    chosen_on, tested = halves(target.facts, target.seed, "direction")
    retained = list(evenly_spaced(target.material, settings["prompts"]))
    if not chosen_on or not retained:
        lacking = "there are no retained examples" if chosen_on else "the attacked facts are of a single group"
        target.reporter.warn(f"direction is left out: {lacking}")
        return
    forget, retain = (last_states(target, facts, settings["batch_tokens"]) for facts in (chosen_on, retained))
    direction = _choose(target, forget, retain, chosen_on, retained, settings)
    architecture = target.loaded.architecture
    with nullcontext() if direction is None else without_direction(architecture, direction):
        yield from answers(target, tested, probability=True)
        yield from answers(target, target.kept, split=RETAIN)


def last_states(target: Target, facts: Sequence[Fact], batch_tokens: int) -> Tensor:
    """Every block's output at the last token of the facts' prompts, [L, n, h] float32, longest prompt first."""
    loaded = target.loaded
    prompts = [loaded.prompts.prompt(fact.question, fact.kind).ids for fact in facts]
    blocks = range(loaded.architecture.n_blocks)
    found: dict[int, list[Tensor]] = {block: [] for block in blocks}
    for rows in length_sorted_batches([len(prompt) for prompt in prompts], batch_tokens):
        batch = pad_sequences([prompts[row] for row in rows], loaded.prompts.pad_id, loaded.device)
        every, last = torch.arange(len(rows)), (batch.mask.sum(1) - 1).cpu()

        def keep(block: int, output: Tensor, every: Tensor = every, last: Tensor = last) -> None:
            found[block].append(output[every.to(output.device), last.to(output.device)].float().cpu())

        run_lower(loaded.architecture, batch, outputs_of=blocks, on_output=keep)
    return torch.stack([torch.cat(found[block]) for block in blocks])


def _choose(
    target: Target,
    forget: Tensor,
    retain: Tensor,
    chosen_on: list[Fact],
    retained: list[Fact],
    settings: Mapping[str, Any],
) -> Tensor | None:
    """The best block's direction; None where every direction moves the retained prompts too far, or does not raise the answers."""
    before = _next_tokens(target, retained, settings["batch_tokens"])
    best: tuple[int, float, Tensor] | None = None
    most = _probability(target, chosen_on)
    for block in range(len(forget)):
        direction = difference_of_means(forget[block], retain[block])
        with without_direction(target.loaded.architecture, direction):
            after = _next_tokens(target, retained, settings["batch_tokens"])
            moved = float((before.exp() * (before - after)).sum(-1).mean())
            if moved >= settings["kl"]:
                continue
            probability = _probability(target, chosen_on)
        if probability > most:
            best, most = (block, moved, direction), probability
    if best is None:
        target.reporter.note("no block has a direction whose removal raises the answers and spares the rest: none is removed")
        return None
    target.reporter.note(f"the direction of block {best[0]} is removed (KL on retained prompts {best[1]:.3f} nats)")
    return best[2]


def _probability(target: Target, facts: Sequence[Fact]) -> float:
    """Mean of exp(-mean loss) of the true answers."""
    prompts = target.loaded.prompts
    items = [prompts.pair(fact) for fact in facts]
    return float(np.mean(answer_probabilities(target, items)))


@torch.no_grad()
def _next_tokens(target: Target, facts: Sequence[Fact], batch_tokens: int) -> Tensor:
    """Log-probabilities of the token after each prompt, [n, V] float32."""
    loaded = target.loaded
    prompts = [loaded.prompts.prompt(fact.question, fact.kind).ids for fact in facts]
    found = []
    for rows in length_sorted_batches([len(prompt) for prompt in prompts], batch_tokens):
        batch = pad_sequences([prompts[row] for row in rows], loaded.prompts.pad_id, loaded.device)
        hidden = loaded.architecture.backbone(
            input_ids=batch.ids, attention_mask=batch.mask, position_ids=batch.positions, use_cache=False
        ).last_hidden_state
        last = hidden[torch.arange(len(rows), device=hidden.device), (batch.mask.sum(1) - 1).to(hidden.device)]
        found.append(torch.log_softmax(loaded.architecture.logits(last).float(), dim=-1).cpu())
    return torch.cat(found)
