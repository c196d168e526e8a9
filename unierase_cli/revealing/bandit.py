"""NeuralUCB with a diagonal confidence (Zhou et al. 2020, arXiv 1911.04462), as INSTINCT uses it (arXiv 2310.02905).

A network f(x) with one hidden layer predicts the score of a soft prompt from its features x. The next one is the argmax
of f(x) + sqrt(sum(lambda nu g^2 / U)), where g is the gradient of f by the parameters and U sums lambda and the squared
gradients of what was chosen.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unierase_cli.contracts import stable_hash

HIDDEN, STEPS, RATE = 100, 1000, 1e-3


@dataclass
class Confidence:
    """U for each parameter of the network: ``first`` [H, h], ``first_bias`` [H], ``last`` [H], ``last_bias`` []."""

    first: Tensor
    first_bias: Tensor
    last: Tensor
    last_bias: Tensor


class NeuralUCB:
    """The network and its confidence; it is trained anew from the same start after every score."""

    def __init__(self, width: int, seed: int, exploration: float, ridge: float) -> None:
        generator = torch.Generator().manual_seed(stable_hash(seed, "network"))
        # Kaiming's uniform bounds, drawn from a generator of our own.
        self.start = [
            (torch.rand(HIDDEN, width, generator=generator) * 2 - 1) * (6 / width) ** 0.5,
            torch.zeros(HIDDEN),
            (torch.rand(HIDDEN, generator=generator) * 2 - 1) * (6 / HIDDEN) ** 0.5,
            torch.zeros(()),
        ]
        self.parameters = [value.clone() for value in self.start]
        self.exploration, self.ridge = exploration, ridge
        self.confidence = Confidence(*(torch.full_like(value, ridge) for value in self.start))

    def predict(self, x: Tensor) -> Tensor:
        """f(x) of features [n, h], [n]."""
        first, first_bias, last, last_bias = self.parameters
        return torch.relu(x @ first.T + first_bias) @ last + last_bias

    def train(self, x: Tensor, y: Tensor) -> None:
        """Fit all scores ``y`` [n] so far: 1,000 steps of Adam on the squared error, with weight decay lambda / n."""
        self.parameters = [nn.Parameter(value.clone()) for value in self.start]
        optimizer = torch.optim.Adam(self.parameters, lr=RATE, weight_decay=self.ridge / len(y))
        for _ in range(STEPS):
            optimizer.zero_grad()
            ((self.predict(x) - y) ** 2).mean().backward()
            optimizer.step()
        self.parameters = [value.detach() for value in self.parameters]

    def bound(self, x: Tensor) -> Tensor:
        """The upper confidence bound of each of the features [n, h], [n]."""
        u, (hidden, slope) = self.confidence, self._parts(x)
        squares = (slope**2 * (x**2 @ (1 / u.first).T + 1 / u.first_bias)).sum(1)
        squares = squares + (hidden**2 / u.last).sum(1) + 1 / u.last_bias
        return self.predict(x) + (self.ridge * self.exploration * squares).sqrt()

    def chosen(self, x: Tensor) -> None:
        """Add the squared gradients of chosen features [n, h] to U."""
        u, (hidden, slope) = self.confidence, self._parts(x)
        u.first += (slope**2).T @ x**2
        u.first_bias += (slope**2).sum(0)
        u.last += (hidden**2).sum(0)
        u.last_bias += float(len(x))

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The hidden layer [n, H], and the derivative of f by its input [n, H]; all gradients are products of these and x."""
        first, first_bias, last, _ = self.parameters
        hidden = torch.relu(x @ first.T + first_bias)
        return hidden, (hidden > 0).to(x.dtype) * last
