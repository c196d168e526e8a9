"""The search for z: the block output at a fact's key that makes the target the next token (spec 2.4).

Facts are searched together, each with its own delta, optimiser state, clamp and early stop; their losses are
independent, so the gradient of the sum is each fact's own. Per fact, with delta added to the output h0 of the last
edited block at each prompt's key,

    L = mean over templates of the target's mean negative log-probability
      + kl_factor KL(current || initial next-token distribution of "{subject} is a" at its key)
      + weight_decay ||delta|| / ||h0||^2
      + runner_up (-log of the refusals' first tokens' share of what the target leaves)          (findings 9)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unierase_cli.config.sections.edit import ValueConfig
from unierase_cli.contracts import Reporter, UserError
from unierase_cli.editing.problem import losses, only, pose
from unierase_cli.editing.spans import EditRequest
from unierase_cli.models.architecture import Architecture

# Rows of stopped facts leave the problem once at most this share of its facts goes on.
KEPT = 0.9


@dataclass
class Values:
    """The result of the search.

    ``z`` and ``start`` (h0): [h, n] float32. ``loss``, ``probability`` (of the whole target, geometric mean over its
    tokens and templates) and ``looks`` (evaluations until the stop): [n], of the final z.
    """

    z: Tensor
    start: Tensor
    loss: Tensor
    probability: Tensor
    looks: Tensor

    def tensors(self) -> dict[str, Tensor]:
        return dict(vars(self))


def join_values(parts: Sequence[Values]) -> Values:
    """Concatenate the values of several batches of facts."""
    return Values(**{name: torch.cat([getattr(p, name) for p in parts], dim=-1) for name in vars(parts[0])})


def find_values(
    architecture: Architecture,
    requests: Sequence[EditRequest],
    config: ValueConfig,
    layer: int,
    *,
    pad_id: int,
    refusal_starts: Sequence[int] = (),
    reporter: Reporter,
) -> Values:
    """z at the output of block ``layer`` for one batch of facts.

    ``refusal_starts``: first tokens of refusals for the runner-up term; empty disables it. Raises UserError for a loss
    that is not finite.
    """
    problem = pose(architecture, requests, layer, pad_id)
    device = problem.fact.device
    n, width = len(requests), problem.suffixes.hidden.shape[-1]
    start = problem.suffixes.hidden[problem.bare, 0].float()
    norms = start.norm(dim=1)
    deltas = [torch.zeros(width, device=device, requires_grad=True) for _ in range(n)]
    optimiser = torch.optim.Adam(
        [{"params": [d], "lr": _rate(config, float(s), width)} for d, s in zip(deltas, norms, strict=True)]
    )
    starts = torch.tensor(sorted(set(refusal_starts)), device=device, dtype=torch.long) if config.runner_up else None
    if starts is not None and starts.numel() == 0:
        starts = None
    loss, probability = torch.zeros(n, device=device), torch.zeros(n, device=device)
    looks = torch.zeros(n, dtype=torch.long, device=device)
    active = torch.ones(n, dtype=torch.bool, device=device)
    kept = active.clone()  # facts whose rows are still in the problem
    for look in range(config.steps):
        delta = torch.stack([d if a else d.detach() for d, a in zip(deltas, active.tolist(), strict=True)])
        total, nll = losses(architecture, problem, delta, norms, config, starts)
        if not torch.isfinite(total[active]).all():
            worst = int(torch.nonzero(active & ~torch.isfinite(total))[0])
            raise UserError(
                f"the search for z reached a loss that is not finite at fact {requests[worst].fact_id}, evaluation {look + 1}",
                "lower edit.values.lr, or use model.dtype=float32",
            )
        loss[active], probability[active] = total.detach()[active], (-nll).exp().detach()[active]
        looks[active] = look + 1
        reached = total.detach() if config.stop_kind == "total" else nll.detach()
        active = active & ~(reached < config.stop_loss)
        if look + 1 == config.steps or not active.any():
            break
        optimiser.zero_grad(set_to_none=True)
        total[active].sum().backward()
        for gone in torch.nonzero(~active).flatten().tolist():
            deltas[gone].grad = None
        optimiser.step()
        with torch.no_grad():
            for one, norm in zip(deltas, norms, strict=True):
                if one.norm() > config.clamp * norm:
                    one.mul_(config.clamp * norm / one.norm())
        # Not at every stop, because a part of the problem is a copy.
        if int(active.sum()) <= KEPT * int(kept.sum()):
            problem, kept = only(problem, active), active.clone()
    final = torch.stack([d.detach() for d in deltas])
    return Values((start + final).T.contiguous(), start.T.contiguous(), loss, probability, looks)


def _rate(config: ValueConfig, norm: float, width: int) -> float:
    """Adam's step per element; relative, the first step's norm is ``lr`` times the clamp's radius at any model scale."""
    if config.lr_kind == "absolute":
        return config.lr
    root: float = width**0.5
    return config.lr * config.clamp * norm / root
