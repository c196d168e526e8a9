"""Random rows on tiny models for tests of loss terms, and every term's formula written out slowly, one token after another."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers.tiny_models import tiny_llama
from unierase_cli.methods.terms import rmu
from unierase_cli.methods.terms.base import (
    FORGET,
    FORGET_ALTERNATE,
    FORGET_REFUSAL,
    KINDS,
    RETAIN,
    RETAIN_REFUSAL,
    UNLEARNED,
    complete_settings,
    load_term,
    term_loss,
)
from unierase_cli.models.load import LoadedModel
from unierase_cli.training.unlearning.rows import Layout, Row, collate, make_row
from unierase_cli.training.unlearning.views import FrozenView, View

BLOCK = 1
LENGTH = 24  # every batch is padded to it, so that a part of a batch has the positions of the whole
# Settings that differ from the defaults, so that a setting that is not read is found out.
SETTINGS: dict[str, dict[str, Any]] = {
    "altpo": {"beta": 0.3}, "ap": {"beta": 0.2}, "ceu": {"skip": 2}, "dpo": {"beta": 0.4}, "npo": {"beta": 0.3},
    "simnpo": {"beta": 2.5, "delta": 0.7}, "undial": {"beta": 3.0}, "wga": {"beta": 2.0}, "satimp": {"beta1": 2.0, "beta2": 0.5},
    "bounded": {"margin": 5.5}, "jensun": {"tokens": [7, 9]},
    "rmu": {"layer": BLOCK, "steering_coefficient": 3.0, "seed": 4}, "embed_diff": {"layer": BLOCK, "refusals": 0.5},
}  # fmt: skip
RANDOM_ROWS = {kind: number for number, kind in enumerate(KINDS)}


@cache
def models() -> tuple[LoadedModel, LoadedModel]:
    """The trained model and the one before unlearning."""
    current, before = tiny_llama(seed=1), tiny_llama(seed=2)
    current.model.requires_grad_(True)
    return current, before


def make_rows(weights: Callable[[int], Sequence[float]] | None = None, count: int = 3) -> dict[str, list[Row]]:
    """Random rows with answers of 3 to 9 tokens; ``weights(n)``: those of an answer of n tokens."""
    found: dict[str, list[Row]] = {}
    for kind, seed in RANDOM_ROWS.items():
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(5, 300, (count, LENGTH), generator=generator).tolist()
        sizes = torch.randint(3, 10, (count,), generator=generator).tolist()
        found[kind] = [
            make_row(line[: 4 + n], line[10 : 10 + size], weights=weights(size) if weights else None)
            for n, (line, size) in enumerate(zip(ids, sizes, strict=True))
        ]
    return found


def uneven(count: int) -> list[float]:
    """Weights of an answer's tokens, no two alike."""
    return [0.5 + 0.25 * n + 0.1 * count for n in range(count)]


def views(rows: Mapping[str, Sequence[Row]], layout: Layout | None = None) -> dict[str, View]:
    current, before = models()
    found = {}
    for kind, own in rows.items():
        batch = collate(own, current.prompts.pad_id, "cpu", layout or Layout(pad_to=LENGTH))
        found[kind] = View(current, batch, FrozenView(before, batch, captured=(BLOCK,)), captured=(BLOCK,))
    return found


def settings_of(name: str, **more: Any) -> dict[str, Any]:
    return complete_settings(load_term(name), {**SETTINGS.get(name, {}), **more}, name)


def loss(name: str, seen: Mapping[str, View], total: float | None = None, **more: Any) -> Tensor:
    return term_loss(load_term(name), seen, settings_of(name, **more), total)


def gradient(value: Tensor) -> Tensor:
    """Gradient over all parameters, flattened; zeros where a parameter has no part."""
    parameters = list(models()[0].model.parameters())
    found = torch.autograd.grad(value, parameters, allow_unused=True)
    return torch.cat(
        [(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(parameters, found, strict=True)]
    )


def near(value: Any) -> Any:
    return pytest.approx(value, rel=2e-5, abs=1e-6)


def assert_same(found: Tensor, expected: Tensor) -> None:
    """Gradients alike to rounding, measured by the largest entry."""
    assert expected.abs().max() > 0
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())


# The slow way: every row alone and unpadded, one token after another.


@dataclass
class Slow:
    """One row: the models' log-probabilities and logits [n][V] at its answer tokens, hidden states [n][h] on them."""

    targets: list[int]
    weights: list[float]
    logits: Tensor
    before: Tensor
    hidden: Tensor
    hidden_before: Tensor

    def nll(self, number: int, before: bool = False) -> float:
        logits = self.before if before else self.logits
        return -logits[number].log_softmax(-1)[self.targets[number]].item()

    def row_sum(self, before: bool = False) -> float:
        return sum(w * self.nll(n, before) for n, w in enumerate(self.weights))


@torch.no_grad()
def slow_rows(rows: Sequence[Row]) -> list[Slow]:
    found = []
    for row in rows:
        first, count = row.answer_start, len(row.ids) - row.answer_start
        outputs = []
        for loaded in models():
            outputs.append(loaded.model(torch.tensor([row.ids]), output_hidden_states=True))
        logits, before = (out.logits[0, first - 1 : -1].double() for out in outputs)
        # The embedding is hidden state 0.
        hidden, hidden_before = (out.hidden_states[BLOCK + 1][0, first:].double() for out in outputs)
        weights = list(row.weights) if row.weights else [1.0] * count
        found.append(Slow(list(row.ids[first:]), weights, logits, before, hidden, hidden_before))
    return found


def mean(values: Sequence[tuple[float, float]]) -> float:
    """Weighted mean of (weight, value) pairs."""
    return sum(w * v for w, v in values) / sum(w for w, _ in values)


def over_tokens(rows: Sequence[Slow], value: Callable[[Slow, int], float]) -> float:
    return mean([(w, value(row, n)) for row in rows for n, w in enumerate(row.weights)])


def log_sigmoid(z: float) -> float:
    return -math.log(1 + math.exp(-z))


def slow_preference(preferred: list[Slow], other: list[Slow], beta: float) -> float:
    found = []
    for win, lose in zip(preferred, other, strict=True):
        ratio = -win.row_sum() + lose.row_sum()
        ratio_before = -win.row_sum(True) + lose.row_sum(True)
        found.append(-2 / beta * log_sigmoid(beta * (ratio - ratio_before)))
    return sum(found) / len(found)


def slow_npo(r: dict[str, list[Slow]], beta: float) -> float:
    found = [-2 / beta * log_sigmoid(beta * (row.row_sum() - row.row_sum(True))) for row in r[FORGET]]
    return sum(found) / len(found)


def slow_simnpo(r: dict[str, list[Slow]], beta: float, delta: float) -> float:
    found = [-2 / beta * log_sigmoid(beta * (row.row_sum() / sum(row.weights) - delta)) for row in r[FORGET]]
    return sum(found) / len(found)


def slow_ap(r: dict[str, list[Slow]], beta: float) -> float:
    pairs = zip(r[RETAIN_REFUSAL], r[RETAIN], strict=True)
    found = [-1 / beta * log_sigmoid(beta * (refusal.row_sum() - answer.row_sum())) for refusal, answer in pairs]
    return sum(found) / len(found)


def slow_entropy(row: Slow, n: int) -> float:
    p = row.logits[n].softmax(-1).tolist()
    return sum(1 / len(p) * (math.log(1 / len(p)) - math.log(v + 1e-12)) for v in p)


def cross_entropy(target: Sequence[float], logits: Tensor) -> float:
    return -sum(t * q for t, q in zip(target, logits.log_softmax(-1).tolist(), strict=True))


def slow_undial(row: Slow, n: int, beta: float) -> float:
    lowered = row.before[n].clone()
    lowered[row.targets[n]] -= beta
    return cross_entropy(lowered.softmax(-1).tolist(), row.logits[n])


def slow_ceu(r: dict[str, list[Slow]], skip: int) -> float:
    found = []
    for row in r[FORGET]:
        for n in range(skip, len(row.targets)):
            p = row.logits[n].softmax(-1).tolist()
            known = p[row.targets[n]]
            others = [0.0 if v == row.targets[n] else q / (1 - known) for v, q in enumerate(p)]
            found.append((row.weights[n], cross_entropy(others, row.logits[n])))
    return mean(found)


def slow_divergence(row: Slow, n: int) -> float:
    before, now = row.before[n].log_softmax(-1).tolist(), row.logits[n].log_softmax(-1).tolist()
    return sum(math.exp(a) * (a - b) for a, b in zip(before, now, strict=True))


def slow_distance(rows: Sequence[Slow], target: Callable[[Slow, int], Sequence[float]]) -> float:
    found = []
    for row in rows:
        squares = []
        for n, w in enumerate(row.weights):
            pairs = list(zip(row.hidden[n].tolist(), target(row, n), strict=True))
            squares.append((w, sum((h - c) ** 2 for h, c in pairs) / len(pairs)))
        found.append(mean(squares))
    return sum(found) / len(found)


def slow_rmu(r: dict[str, list[Slow]], layer: int, steering_coefficient: float, seed: int) -> float:
    vector = rmu.control_vector(
        32, {"vector": None, "seed": seed, "steering_coefficient": steering_coefficient}
    ).tolist()
    return slow_distance(r[FORGET], lambda row, n: vector)


def slow_jensen_shannon(p: Sequence[float], q: Sequence[float]) -> float:
    halves = [sum(a * math.log(2 * a / (a + b)) for a, b in zip(one, other, strict=True) if a) for one, other in ((p, q), (q, p))]
    return sum(halves) / 2


def slow_jensun(row: Slow, n: int, tokens: list[int]) -> float:
    wanted = [1e-9] * row.logits[n].numel()
    wanted[tokens[n % len(tokens)]] = 1.0
    return slow_jensen_shannon(row.logits[n].softmax(-1).clamp_min(1e-9).tolist(), wanted)


def slow_kept(row: Slow, n: int) -> float:
    return slow_jensen_shannon(row.before[n].softmax(-1).tolist(), row.logits[n].softmax(-1).tolist())


def slow_moved(rows: list[Slow]) -> float:
    return slow_distance(rows, lambda row, n: row.hidden_before[n].tolist())


SLOW: dict[str, Callable[..., float]] = {
    "bounded": lambda r, margin: over_tokens(r[FORGET], lambda row, n: max(0.0, margin - row.nll(n))),
    "jensun": lambda r, tokens: over_tokens(r[FORGET], lambda row, n: slow_jensun(row, n, tokens)),
    "js": lambda r: over_tokens(r[RETAIN], slow_kept),
    "ga": lambda r: -over_tokens(r[FORGET], Slow.nll),
    "gd": lambda r: over_tokens(r[RETAIN], Slow.nll),
    "learn": lambda r: over_tokens(r[FORGET], Slow.nll),
    "idk": lambda r: over_tokens(r[FORGET_REFUSAL], Slow.nll),
    "npo": slow_npo,
    "dpo": lambda r, beta: slow_preference(r[FORGET_REFUSAL], r[FORGET], beta),
    "altpo": lambda r, beta: slow_preference(r[FORGET_ALTERNATE], r[FORGET], beta),
    "simnpo": slow_simnpo,
    "ap": slow_ap,
    "me": lambda r: over_tokens(r[FORGET], slow_entropy),
    "undial": lambda r, beta: over_tokens(r[FORGET], lambda row, n: slow_undial(row, n, beta)),
    "wga": lambda r, beta: over_tokens(r[FORGET], lambda row, n: -(math.exp(-row.nll(n)) ** beta) * row.nll(n)),
    "satimp": lambda r, beta1, beta2: over_tokens(
        r[FORGET], lambda row, n: -(math.exp(-row.nll(n)) ** beta1) * (1 - math.exp(-row.nll(n))) ** beta2 * row.nll(n)
    ),
    "ceu": slow_ceu,
    "pdu": lambda r: over_tokens(
        r[FORGET], lambda row, n: (max(row.logits[n].tolist()) - sum(row.logits[n].tolist()) / len(row.logits[n])) ** 2
    ),
    "kl": lambda r: over_tokens(r[RETAIN], slow_divergence),
    "rmu": slow_rmu,
    "embed_diff": lambda r, layer, refusals: slow_moved(r[RETAIN]) + refusals * slow_moved(r[UNLEARNED]),
}
