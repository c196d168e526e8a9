"""The closed form of an edit: low-rank solves against dense ones, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from unierase_cli.config.sections.edit import EditConfig
from unierase_cli.contracts import UserError
from unierase_cli.editing.nullspace import Preservation, choose_preservation, nothing_protected
from unierase_cli.editing.solve import LayerState, solve

D, H = 40, 12


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moment(seed: int = 0) -> Tensor:
    """A second moment with a steep spectrum."""
    keys = random(D, 200, seed=seed) * torch.logspace(0, -3, D, dtype=torch.float64)[:, None]
    rotation = torch.linalg.qr(random(D, D, seed=seed + 1))[0]
    return rotation @ (keys @ keys.T / 200) @ rotation.T


def preserve(c: Tensor, config: EditConfig) -> tuple[Preservation, Tensor]:
    """B by its factor, and as a dense matrix from the definition."""
    values, vectors = torch.linalg.eigh(c)
    found = choose_preservation(values, lambda a, b: vectors.T[a:b], config)
    if config.preserve == "null_space":
        free = vectors[:, values < config.threshold * values[-1]]
        return found, free @ free.T
    a = config.alpha * c / values.mean()
    return found, config.lambda_ * torch.linalg.inv(a + config.lambda_ * torch.eye(D, dtype=torch.float64))


def dense(keys: Tensor, residuals: Tensor, b: Tensor, earlier: Tensor, lambda_: float) -> Tensor:
    """(E3) with P = B: X = [B (K K' + C) + lambda I]^-1 B K R', Delta = X'."""
    system = b @ (keys @ keys.T + earlier) + lambda_ * torch.eye(D, dtype=torch.float64)
    return torch.linalg.solve(system, b @ keys @ residuals.T).T


def low_rank(keys: Tensor, residuals: Tensor, preservation: Preservation, earlier: Tensor, lambda_: float) -> Tensor:
    """Delta by ``solve``, after earlier keys [d, m] (edited first, with any residual)."""
    state = LayerState(lambda_)
    if earlier.shape[1]:
        _, state = solve(
            earlier, random(H, earlier.shape[1], seed=9), preservation, state, lambda_=1.0, lambda_kind="absolute"
        )
    solution, _ = solve(keys, residuals, preservation, state, lambda_=lambda_, lambda_kind="absolute")
    return solution.factor.dense()


CONFIGS = [
    EditConfig(preserve="null_space", threshold=0.02),
    EditConfig(preserve="null_space", threshold=1e-5),
    EditConfig(preserve="ridge", alpha=100.0, lambda_=0.05),
    EditConfig(preserve="ridge", alpha=1.0, lambda_=2.0),
]


@pytest.mark.parametrize("config", CONFIGS, ids=["cut", "narrow cut", "strong ridge", "weak ridge"])
@pytest.mark.parametrize("m", [0, 7])
@pytest.mark.parametrize("n", [1, 5])
def test_the_low_rank_solve_equals_the_dense_one(config: EditConfig, m: int, n: int) -> None:
    preservation, b = preserve(moment(), config)
    keys, residuals, earlier = random(D, n, seed=2), random(H, n, seed=3), random(D, m, seed=4)
    lambda_ = 0.3
    delta = low_rank(keys, residuals, preservation, earlier, lambda_)
    wanted = dense(keys, residuals, b, earlier @ earlier.T, lambda_)
    assert (delta - wanted).norm() / wanted.norm() < 1e-10


@pytest.mark.parametrize("config", CONFIGS[::2], ids=["cut", "ridge"])
def test_three_steps_equal_three_dense_solves_with_accumulated_keys(config: EditConfig) -> None:
    preservation, b = preserve(moment(), config)
    state, past = LayerState(), torch.zeros(D, D, dtype=torch.float64)
    for step in range(3):
        keys, residuals = random(D, 4, seed=10 + step), random(H, 4, seed=20 + step)
        solution, state = solve(keys, residuals, preservation, state, lambda_=0.2, lambda_kind="absolute")
        wanted = dense(keys, residuals, b, past, 0.2)
        assert (solution.factor.dense() - wanted).norm() / wanted.norm() < 1e-10
        past = past + keys @ keys.T
    assert state.edits == 12


def test_soft_preservation_is_memits_weighting() -> None:
    config = EditConfig(preserve="ridge", alpha=30.0, lambda_=0.07)
    c = moment()
    preservation, _ = preserve(c, config)
    keys, residuals = random(D, 5, seed=2), random(H, 5, seed=3)
    a = config.alpha * c / torch.linalg.eigvalsh(c).mean()
    wanted = (
        residuals @ keys.T @ torch.linalg.inv(a + config.lambda_ * torch.eye(D, dtype=torch.float64) + keys @ keys.T)
    )
    delta = low_rank(keys, residuals, preservation, random(D, 0, seed=0), config.lambda_)
    assert (delta - wanted).norm() / wanted.norm() < 1e-10


@pytest.mark.parametrize("alpha_kind", ["relative", "absolute"])
@pytest.mark.parametrize("rank", [D, D // 2], ids=["full rank", "half rank"])
@pytest.mark.parametrize("lambda_", [1e-3, 1e-6, 1e-8])
@pytest.mark.parametrize("inside", [True, False], ids=["protected keys", "any keys"])
def test_a_small_lambda_costs_no_precision_with_stored_eigenvectors(
    lambda_: float, rank: int, alpha_kind: str, inside: bool
) -> None:
    c = moment()
    values, vectors = torch.linalg.eigh(c)
    values = torch.where(torch.arange(D) < D - rank, 0.0, values.clamp(min=1e-4))
    config = EditConfig(preserve="ridge", alpha=3.0, alpha_kind=alpha_kind, lambda_=lambda_, lambda_kind="absolute")
    # As a moments artefact has them: rounded to float32.
    preservation = choose_preservation(values, lambda a, b: vectors.T.float()[a:b], config)
    # Keys that lie in what is protected are the hard case: what is free of them is all that there is.
    keys = random(D, 5, seed=2)
    if inside:
        keys = (vectors @ torch.diag((values > 0).double()) @ vectors.T) @ keys
    residuals = random(H, 5, seed=3)
    a = config.alpha * (vectors * values) @ vectors.T / (values.mean() if alpha_kind == "relative" else 1.0)
    wanted = residuals @ keys.T @ torch.linalg.inv(a + lambda_ * torch.eye(D, dtype=torch.float64) + keys @ keys.T)
    delta = low_rank(keys, residuals, preservation, random(D, 0, seed=0), lambda_)
    assert (delta @ keys - wanted @ keys).norm() / (wanted @ keys).norm() < 1e-4


def test_a_relative_lambda_is_scale_free_and_fixes_the_share_of_one_fact() -> None:
    for config in CONFIGS:
        preservation, _ = preserve(moment(), config)
        key, residual = random(D, 1, seed=5), random(H, 1, seed=6)
        outputs = []
        for scale in (1.0, 37.0):
            scaled, _ = preserve(moment() * scale**2, config)
            solution, _ = solve(key * scale, residual, scaled, LayerState(), lambda_=0.25, lambda_kind="relative")
            outputs.append(solution.factor.dense() @ (key * scale))
            assert solution.applied == pytest.approx(1 / 1.25)
        assert torch.allclose(outputs[0], outputs[1], rtol=1e-5)
        assert torch.allclose(outputs[0], residual / 1.25, rtol=1e-5)
        assert preservation.effective_rank < D


def test_protected_directions_are_left_alone() -> None:
    config = CONFIGS[0]
    c = moment()
    preservation, _ = preserve(c, config)
    values, vectors = torch.linalg.eigh(c)
    protected = vectors[:, values >= config.threshold * values[-1]]
    solution, _ = solve(
        random(D, 6, seed=2), random(H, 6, seed=3), preservation, LayerState(), lambda_=0.1, lambda_kind="absolute"
    )
    delta = solution.factor.dense()
    assert (delta @ protected).norm() / delta.norm() < 1e-12


def test_a_single_edit_writes_its_share_of_the_residual() -> None:
    preservation, b = preserve(moment(), CONFIGS[0])
    key, residual = random(D, 1, seed=5), random(H, 1, seed=6)
    solution, _ = solve(key, residual, preservation, LayerState(), lambda_=0.4, lambda_kind="absolute")
    energy = float(key[:, 0] @ b @ key[:, 0])
    share = energy / (energy + 0.4)
    assert solution.mean_kbk == pytest.approx(energy)
    assert solution.applied == pytest.approx(share)
    assert torch.allclose(solution.factor.dense() @ key, share * residual, rtol=1e-5)


def test_equal_keys_are_harmless() -> None:
    key, residual = random(D, 1, seed=5), random(H, 2, seed=6)
    preservation = nothing_protected(D, "ridge")
    solution, _ = solve(key.repeat(1, 2), residual, preservation, LayerState(), lambda_=1e-3, lambda_kind="absolute")
    assert torch.allclose(solution.factor.dense() @ key, residual.mean(1, keepdim=True), rtol=1e-3)


def test_keys_that_are_not_finite_are_a_clear_error() -> None:
    keys = random(D, 2, seed=1)
    keys[0, 0] = torch.nan
    with pytest.raises(UserError, match="can't be solved"):
        solve(
            keys,
            random(H, 2, seed=2),
            nothing_protected(D, "ridge"),
            LayerState(1.0),
            lambda_=1.0,
            lambda_kind="absolute",
        )


def test_keys_inside_what_is_protected_are_a_clear_error() -> None:
    preservation, _ = preserve(moment(), CONFIGS[0])
    with pytest.raises(UserError, match="entirely in what is protected"):
        solve(
            torch.zeros(D, 2).double(),
            random(H, 2, seed=2),
            preservation,
            LayerState(),
            lambda_=0.1,
            lambda_kind="relative",
        )
