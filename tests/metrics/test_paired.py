"""Paired tests, rank correlation and the intervals of aggregates, against what can be counted by hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from unierase_cli.contracts import Measure
from unierase_cli.metrics.base import About, mean_result
from unierase_cli.metrics.statistics import paired
from unierase_cli.metrics.statistics.aggregate import difference_interval, harmonic_mean
from unierase_cli.metrics.statistics.paired import aggregate_sign_flip, compare_rows, holm, mcnemar, sign_flip
from unierase_cli.metrics.statistics.rank_correlation import Correlation, spearman


def test_three_rows_of_one_direction_have_the_p_of_two_patterns_in_eight() -> None:
    assert sign_flip([1.0, 2.0, 3.0]) == (2 / 8, True)
    # |sum| of the eight patterns of 1, 2, 3: 6 4 2 0 0 2 4 6; at least 4 is reached by four.
    assert sign_flip([-1.0, 2.0, 3.0]) == (4 / 8, True)
    assert sign_flip([1.0, 2.0, -3.0]) == (1.0, True)


def test_a_few_rows_are_tested_exactly_as_by_trying_every_pattern() -> None:
    values = np.random.default_rng(1).normal(0.4, 1, 10)
    sums = [abs(sum(s * v for s, v in zip(signs, values, strict=True))) for signs in product((1, -1), repeat=10)]
    expected = sum(total >= abs(values.sum()) - 1e-9 for total in sums) / len(sums)
    assert sign_flip(values) == (pytest.approx(expected), True)


def test_rows_without_a_difference_change_nothing() -> None:
    assert sign_flip([1.0, 2.0, 3.0, *[0.0] * 500]) == (2 / 8, True)
    assert sign_flip([0.0] * 40) == (1.0, True)


def test_random_patterns_come_close_to_all_of_them_and_are_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(2).normal(0.5, 1, 14)
    exact, _ = sign_flip(values)
    monkeypatch.setattr(paired, "EXACT_ROWS", 0)
    sampled = sign_flip(values)
    assert sampled == (pytest.approx(exact, abs=0.02), False)
    assert sign_flip(values) == sampled
    # The observed pattern is one of those counted: p is never 0.
    assert sign_flip([1.0] * 100) == (1 / 10_000, False)


def test_neither_the_order_of_rows_nor_which_run_is_first_matters() -> None:
    generator = np.random.default_rng(3)
    a, b = generator.random(60), generator.random(60)
    order = generator.permutation(60)
    assert compare_rows(a[order].tolist(), b[order].tolist()) == compare_rows(a.tolist(), b.tolist())
    there, back = compare_rows(a.tolist(), b.tolist()), compare_rows(b.tolist(), a.tolist())
    assert (there.p, there.difference) == (back.p, -back.difference)
    assert (there.higher_first, there.higher_second) == (back.higher_second, back.higher_first)


def test_means_interval_and_ties_are_those_of_the_pairs() -> None:
    test = compare_rows([0.0, 0.5, 1.0, 0.2], [0.0, 0.75, 1.0, 0.1])
    assert (test.n, test.first, test.second) == (4, pytest.approx(0.425), pytest.approx(0.4625))
    assert (test.higher_first, test.higher_second, test.ties) == (1, 1, 2)
    assert test.ci95 is not None
    assert test.ci95[0] <= test.difference <= test.ci95[1]


def test_a_single_row_has_no_interval_and_proves_nothing() -> None:
    test = compare_rows([0.1], [0.9])
    assert (test.ci95, test.p, test.n) == (None, 1.0, 1)
    for sides in (([], []), ([1.0], [1.0, 2.0])):
        with pytest.raises(ValueError, match="no pairs"):
            compare_rows(*sides)


def test_mcnemar_counts_the_rows_that_changed() -> None:
    # Six lost, none gained: 2 / 2^6. Five lost, one gained: 2 (1 + 6) / 2^6.
    assert mcnemar([1] * 6 + [0], [0] * 7) == pytest.approx(2 / 64)
    assert mcnemar([1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 1]) == pytest.approx(14 / 64)
    assert mcnemar([1, 0], [1, 0]) == 1
    yes_no = compare_rows([1, 1, 1, 1, 1, 0, 1], [0, 0, 0, 0, 0, 1, 1], yes_no=True)
    # On yes and no the two tests are one.
    assert yes_no.mcnemar == pytest.approx(yes_no.p)
    assert compare_rows([1, 0.5], [0, 1], yes_no=True).mcnemar is None


def test_holm_multiplies_step_by_step_and_never_falls() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


def members(n: int, seed: int = 0, scale: float = 1.0) -> list[tuple[str, Measure]]:
    """Three metrics on each of two splits, of rows that are easy or hard for all three."""
    generator = np.random.default_rng(seed)
    found = []
    for split in ("retain_unseen", "world_facts"):
        ease = generator.uniform(0.3, 0.8, n)
        for metric in ("rouge", "probability", "truth_ratio"):
            values = scale * np.clip(ease + generator.normal(0, 0.05, n), 0, 1)
            found.append((f"{split}.{metric}", mean_result(About(metric, metric, 1, True), values.tolist())))
    return found


def samples(of: list[tuple[str, Measure]]) -> dict[str, tuple[float, ...]]:
    return {label: member.per_sample for label, member in of}


def width(interval: tuple[float, float] | None) -> float:
    assert interval is not None
    return interval[1] - interval[0]


def test_an_aggregates_interval_covers_its_value_and_shrinks_with_the_rows() -> None:
    found = {n: harmonic_mean("h", members(n), 1) for n in (25, 100, 400)}
    for result in found.values():
        assert result.ci95 is not None
        assert result.ci95[0] < (result.value or 0) < result.ci95[1]
    widths = [width(found[n].ci95) for n in (25, 100, 400)]
    assert widths[0] / widths[1] == pytest.approx(2, rel=0.3)
    assert widths[1] / widths[2] == pytest.approx(2, rel=0.3)
    assert harmonic_mean("h", members(25), 1) == found[25]


def test_metrics_of_one_row_are_resampled_together() -> None:
    """What a split's metrics have in common does not average out: their interval is wider than that of unrelated splits."""
    rows = mean_result(About("m", "m", 1, True), np.random.default_rng(5).random(50).tolist())
    together = harmonic_mean("h", [(f"retain_unseen.{n}", rows) for n in range(3)], 1)
    apart = harmonic_mean("h", [(f"split{n}.m", rows) for n in range(3)], 1)
    assert together.ci95 == pytest.approx(rows.ci95, rel=0.2)
    assert width(apart.ci95) < 0.8 * width(together.ci95)


def test_an_aggregate_of_single_rows_or_of_members_without_rows_has_no_interval() -> None:
    assert harmonic_mean("h", [("s.m", Measure("m", 0.5)), ("t.m", Measure("m", 0.4))], 1).ci95 is None
    assert harmonic_mean("h", members(1), 1).ci95 is None
    assert harmonic_mean("h", [("s.m", Measure("m", 0.0, per_sample=(0.0, 0.0)))], 1).ci95 == (0.0, 0.0)


def test_the_difference_of_two_aggregates_is_paired() -> None:
    before, after = members(100), members(100, scale=0.95)
    low, high = harmonic_mean("h", before, 1).ci95 or (0.0, 0.0)
    # Every row loses a twentieth, and so does the aggregate in every resample.
    assert difference_interval(before, after) == pytest.approx((-0.05 * high, -0.05 * low))
    assert difference_interval(before, before) == (0.0, 0.0)
    assert difference_interval(before, members(99)) is None


def test_runs_change_sides_in_all_members_of_an_aggregate_at_once() -> None:
    before, after = samples(members(100)), samples(members(100, scale=0.95))
    assert aggregate_sign_flip(before, after) == pytest.approx(1e-4)
    assert aggregate_sign_flip(before, before) == 1
    assert aggregate_sign_flip(before, samples(members(99))) is None
    # One member alone is a mean, and its test that of the mean.
    one, other = ({"s.m": np.random.default_rng(seed).random(20).tolist()} for seed in (7, 8))
    assert aggregate_sign_flip(one, other) == pytest.approx(compare_rows(one["s.m"], other["s.m"]).p, abs=0.02)


def test_rank_correlation_is_exact_for_few_pairs_and_wants_three_that_differ() -> None:
    # Of the 4! orders two give |rho| = 1.
    found = spearman([1, 2, 3, 4], [8, 6, 4, 2])
    assert isinstance(found, Correlation)
    assert (found.rho, found.p, found.exact) == (pytest.approx(-1), pytest.approx(2 / 24), True)
    assert "too few" in str(spearman([1, 2], [1, 2]))
    assert "same value" in str(spearman([1, 2, 3], [0, 0, 0]))


def test_rank_correlation_of_many_pairs_agrees_with_scipy_and_not_with_their_order() -> None:
    from scipy.stats import spearmanr

    generator = np.random.default_rng(4)
    a = generator.random(40)
    b = np.round(0.5 * a + generator.random(40), 1)
    order = generator.permutation(40)
    found, expected = spearman(a.tolist(), b.tolist()), spearmanr(a, b)
    assert isinstance(found, Correlation)
    assert found.rho == pytest.approx(expected.statistic)
    assert found.p == pytest.approx(expected.pvalue, abs=0.01)
    assert not found.exact, "of 40! orders only a sample is looked at"
    assert spearman(a[order].tolist(), b[order].tolist()) == found
