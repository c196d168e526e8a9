"""Noise on the edited projections during token training, so that the token still leads to a refusal after the edit (spec 1.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from unierase_cli.contracts import stable_hash
from unierase_cli.models.architecture import Architecture

# (layer, step) -> perturbation [h, d] of the layer's down projection for that step
Perturbation = Callable[[int, int], Tensor]


def gaussian(architecture: Architecture, fraction: float, seed: int, purpose: str) -> Perturbation:
    """N(0, (fraction x std(W))^2) per entry, the same for equal (seed, purpose, layer, step).

    std(W) is each matrix's own standard deviation. (The reference uses the signed mean of W, which is about zero.) Sampled on
    the weight's device, because filling a large matrix on a CPU is slow.
    """
    spread: dict[int, float] = {}

    def draw(layer: int, step: int) -> Tensor:
        weight = architecture.projection(layer).weight
        if layer not in spread:
            spread[layer] = fraction * float(weight.detach().float().std())
        generator = torch.Generator(device=weight.device)
        generator.manual_seed(stable_hash(seed, "token noise", purpose, layer, step))
        shape = (architecture.hidden_size, architecture.inner_size(layer))
        return torch.randn(shape, generator=generator, device=weight.device) * spread[layer]

    return draw


class Perturbed:
    """The down projections of ``layers`` with noise during a step; the base is restored bit-exactly from copies."""

    def __init__(self, architecture: Architecture, layers: Sequence[int], perturbation: Perturbation) -> None:
        self.architecture, self.perturbation = architecture, perturbation
        self._stored = {n: architecture.projection(n).weight.detach().clone() for n in layers}
        self._base = {n: architecture.weight(n) for n in layers}

    @contextmanager
    def step(self, index: int) -> Iterator[None]:
        """Context in which the weights are round(base + perturbation(layer, index))."""
        try:
            for layer, base in self._base.items():
                self.architecture.set_weight(layer, base + self.perturbation(layer, index).to(base))
            yield
        finally:
            with torch.no_grad():
                for layer, stored in self._stored.items():
                    self.architecture.projection(layer).weight.copy_(stored)
