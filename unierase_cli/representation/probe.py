"""A linear probe: does a block's state in front of the entity tell its first token from another one (spec: depth, section 7)?

Our own choice of features, since the sources leave it open: logistic regression without an intercept on x = h * (e_true - e_other),
elementwise, where h is the state and e the output row of a token. With the final norm's gains as its weights the probe is the logit
lens. The other tokens are entities' first tokens as well, so that only the state tells them apart. Facts are tested in folds that
the probe is not fitted on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from unierase_cli.contracts import stable_hash
from unierase_cli.models.load import LoadedModel
from unierase_cli.representation.rows import EntityRow
from unierase_cli.representation.states import States

FOLDS = 5
# Weight of the squared norm beside the mean loss, for features of unit variance.
RIDGE = 1e-2

Array = NDArray[np.float64]


def other_tokens(rows: Sequence[EntityRow], seed: int) -> list[int]:
    """For every row the first entity token of another row, drawn at random among those that differ from its own.

    Raises ValueError where all rows have the same.
    """
    first = [row.labels[0] for row in rows]
    if len(set(first)) < 2:
        raise ValueError("all entities start with the same token: there is nothing to tell apart")
    generator = np.random.default_rng(stable_hash(seed, "probe"))
    return [int(generator.choice([token for token in first if token != own])) for own in first]


@torch.no_grad()
def probe_accuracy(
    loaded: LoadedModel, rows: Sequence[EntityRow], states: States, others: Sequence[int], *, seed: int = 0
) -> list[list[float]]:
    """Per block and row 1 where a probe fitted on the other folds prefers the true token, else 0; 0.5 is chance.

    ``others``: the token that each row's first one is told from (``other_tokens``). Raises ValueError for fewer rows than folds.
    """
    if len(rows) < FOLDS:
        raise ValueError(f"{len(rows)} rows do not make {FOLDS} folds")
    head = loaded.architecture.head.weight
    true = torch.tensor([row.labels[0] for row in rows], device=head.device)
    apart = (head[true] - head[torch.tensor(list(others), device=head.device)]).double().cpu()
    fold = np.random.default_rng(stable_hash(seed, "folds")).permutation(len(rows)) % FOLDS
    found = []
    for layer in range(loaded.architecture.n_blocks):
        hidden = torch.stack([own[layer, 0] for own in states.of]).double()
        found.append(_cross_validated((hidden * apart).numpy(), fold))
    return found


def _cross_validated(features: Array, fold: NDArray[np.int64]) -> list[float]:
    """1 where a row's features [n, h] are on the positive side of a probe that was fitted without its fold."""
    right = np.zeros(len(features))
    for number in range(FOLDS):
        tested = fold == number
        right[tested] = features[tested] @ _fitted(features[~tested]) > 0
    return [float(value) for value in right]


def _fitted(features: Array) -> Array:
    """The direction [h] that puts as many rows as it can on its positive side, by logistic loss with a ridge."""
    scale = np.sqrt(np.square(features).mean(axis=0)) + np.finfo(np.float64).tiny
    x = features / scale

    def loss(weight: Array) -> tuple[float, Array]:
        margin = x @ weight
        value = np.logaddexp(0, -margin).mean() + RIDGE / 2 * weight @ weight
        return float(value), RIDGE * weight - x.T @ expit(-margin) / len(x)

    found = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B")
    return np.asarray(found.x / scale, dtype=np.float64)
