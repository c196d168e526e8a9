"""The search for z as one batch of rows: what each evaluation re-runs, and what is read from it (spec 2.4, 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unierase_cli.config.sections.edit import ValueConfig
from unierase_cli.editing.spans import EditRequest
from unierase_cli.models.architecture import Architecture
from unierase_cli.models.suffixes import Suffixes, prepare_suffixes


@dataclass
class Problem:
    """One batch of facts as rows of suffixes.

    ``fact``: fact of each row [B]. ``row``, ``place``, ``token``, ``weight``: position and id of the labelled target
    tokens, and their share of the fact's loss [M]. ``first``: entries of M that are a target's first token, with
    ``first_share`` each. ``bare``: each fact's row with the bare prompt in the original problem [n]. ``drifts``: the
    drift prompts' suffixes, apart from the others because they end with their key, with the facts ``of_drift`` [D];
    ``before``: their log-probabilities at delta 0 [D, V].
    """

    suffixes: Suffixes
    fact: Tensor
    row: Tensor
    place: Tensor
    token: Tensor
    weight: Tensor
    first: Tensor
    first_share: Tensor
    bare: Tensor
    drifts: Suffixes | None
    of_drift: Tensor
    before: Tensor | None = None


def pose(architecture: Architecture, requests: Sequence[EditRequest], layer: int, pad_id: int) -> Problem:
    """Build the problem and run, once, everything that does not depend on the deltas."""
    sequences: list[list[int]] = []
    keys: list[int] = []
    fact: list[int] = []
    labels: list[tuple[int, int, int, float]] = []
    firsts: list[int] = []
    bare: list[int] = []
    template: list[int] = []
    for index, request in enumerate(requests):
        bare.append(len(sequences))
        for number, prompt in enumerate(request.prompts):
            template.append(number)
            firsts.append(len(labels))
            share = 1.0 / (len(request.prompts) * len(request.target))
            for step, token in enumerate(request.target):
                labels.append((len(sequences), len(prompt.ids) - 1 - prompt.key + step, token, share))
            sequences.append([*prompt.ids, *request.target[:-1]])
            keys.append(prompt.key)
            fact.append(index)
    suffixes = prepare_suffixes(architecture, sequences, keys, layer, pad_id, alike=template)
    device = suffixes.hidden.device
    located = {index: request.drift for index, request in enumerate(requests) if request.drift is not None}
    ends = [drift.key for drift in located.values()]
    cut = [drift.ids[: drift.key + 1] for drift in located.values()]
    rows, places, tokens, weights = (torch.tensor(list(column), device=device) for column in zip(*labels, strict=True))
    shares = [1.0 / len(requests[fact[labels[i][0]]].prompts) for i in firsts]
    return Problem(
        suffixes,
        torch.tensor(fact, device=device),
        rows,
        places,
        tokens,
        weights,
        torch.tensor(firsts, device=device),
        torch.tensor(shares, device=device),
        torch.tensor(bare, device=device),
        prepare_suffixes(architecture, cut, ends, layer, pad_id) if located else None,
        torch.tensor(list(located), dtype=torch.long, device=device),
    )


def losses(
    architecture: Architecture,
    problem: Problem,
    delta: Tensor,
    norms: Tensor,
    config: ValueConfig,
    starts: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Loss and the target's mean negative log-probability of each fact, [n] each, for deltas [n, h] and ||h0|| [n].

    ``starts``: ids of refusals' first tokens, or None. Facts that have left the problem have no data terms.
    """
    hidden = problem.suffixes.forward(delta[problem.fact])
    zero = delta.new_zeros(delta.shape[0])
    # The last block and the head may be on other devices than the edited block, where deltas and losses are.
    at = hidden[problem.row.to(hidden.device), problem.place.to(hidden.device)]
    reads = at if problem.drifts is None else torch.cat([at, problem.drifts.forward(delta[problem.of_drift])[:, 0]])
    log_probs = architecture.logits(reads).float().log_softmax(-1)
    labelled = log_probs[: at.shape[0]]
    of_label, token = problem.fact[problem.row], problem.token.to(log_probs.device)
    surprise = -labelled.gather(1, token[:, None])[:, 0].to(delta.device) * problem.weight
    nll = zero.index_add(0, of_label, surprise)
    loss = nll
    if problem.drifts is not None:
        drift = log_probs[at.shape[0] :]
        if problem.before is None:
            problem.before = drift.detach().clone()
        divergence = (drift.exp() * (drift - problem.before)).sum(-1).to(delta.device)
        loss = loss.index_add(0, problem.of_drift, config.kl_factor * divergence)
    if starts is not None:
        first = problem.first.to(log_probs.device)
        others = labelled[first].scatter(1, token[first][:, None], -torch.inf)
        missing = others.logsumexp(-1) - others[:, starts.to(others.device)].logsumexp(-1)
        loss = loss.index_add(
            0, of_label[problem.first], config.runner_up * problem.first_share * missing.to(delta.device)
        )
    # torch defines the norm's gradient at 0 as 0, so the first step follows the other terms.
    loss = loss + config.weight_decay * delta.norm(dim=1) / norms.square()
    return loss, nll


def only(problem: Problem, active: Tensor) -> Problem:
    """The problem without the rows of facts that have stopped."""
    kept = active[problem.fact]
    new = kept.long().cumsum(0) - 1
    labels = kept[problem.row]
    new_label = labels.long().cumsum(0) - 1
    firsts = labels[problem.first]
    drift = active[problem.of_drift]
    return Problem(
        problem.suffixes.select(torch.nonzero(kept).flatten()),
        problem.fact[kept],
        new[problem.row[labels]],
        problem.place[labels],
        problem.token[labels],
        problem.weight[labels],
        new_label[problem.first[firsts]],
        problem.first_share[firsts],
        problem.bare,
        None if problem.drifts is None or not drift.any() else problem.drifts.select(torch.nonzero(drift).flatten()),
        problem.of_drift[drift],
        None if problem.before is None else problem.before[drift.to(problem.before.device)],
    )
