"""Excess and share: paired by fact, resampled by group."""

from __future__ import annotations

import pytest

from unierase_cli.audit.numbers import NO_CEILING, NO_CONTROL, Numbers, numbers, relative_numbers

FACTS = [f"f{n}" for n in range(12)]
GROUPS = {fact: f"author {n // 3}" for n, fact in enumerate(FACTS)}
R = {fact: 0.1 + 0.01 * n for n, fact in enumerate(FACTS)}
F = {fact: 0.9 + 0.005 * n for n, fact in enumerate(FACTS)}
U = {fact: 0.2 + 0.03 * (n % 4) for n, fact in enumerate(FACTS)}


def of(u: dict[str, float], r: dict[str, float] | None = R, f: dict[str, float] | None = F) -> Numbers:
    found = numbers(u, r, f, U, GROUPS, 0.05)
    assert found is not None
    return found


def test_the_unedited_model_has_a_share_of_exactly_one() -> None:
    found = of(F)
    assert (found.share, found.share_ci) == (1.0, (1.0, 1.0))


def test_the_control_has_an_excess_of_exactly_zero() -> None:
    found = of(R)
    assert (found.excess, found.excess_ci, found.share) == (0.0, (0.0, 0.0), 0.0)


def test_the_share_is_the_excess_over_the_gap() -> None:
    found = of(U)
    u, r, f = (sum(values.values()) / len(FACTS) for values in (U, R, F))
    assert found.excess == pytest.approx(u - r)
    assert found.share == pytest.approx((u - r) / (f - r))
    assert found.gain == pytest.approx(0.0)
    assert (found.n, found.groups) == (12, 4)


def test_the_same_rows_give_the_same_interval_in_any_order() -> None:
    assert of(U) == of(U)
    backwards = numbers(dict(reversed(U.items())), R, F, U, GROUPS, 0.05)
    assert backwards is not None
    assert backwards.share == pytest.approx(of(U).share)


def test_a_constant_difference_has_an_interval_without_width() -> None:
    low, high = of({fact: value + 0.25 for fact, value in R.items()}).excess_ci or (0.0, 1.0)
    assert low == pytest.approx(0.25)
    assert high == pytest.approx(0.25)


def test_groups_are_resampled_whole() -> None:
    # What differs within groups alone leaves no width; what differs between them does.
    within = {fact: R[fact] + (0.3, 0.0, -0.3)[n % 3] for n, fact in enumerate(FACTS)}
    between = {fact: R[fact] + (0.3, 0.0, -0.3, 0.0)[n // 3] for n, fact in enumerate(FACTS)}
    narrow, wide = of(within).excess_ci, of(between).excess_ci
    assert narrow is not None
    assert wide is not None
    assert narrow[1] - narrow[0] < 1e-9 < 0.2 < wide[1] - wide[0]


def test_only_facts_that_every_model_has_a_score_of_count() -> None:
    assert of(U, {fact: R[fact] for fact in FACTS[:5]}).n == 5
    assert numbers(U, {"other": 1.0}, F, U, GROUPS, 0.05) is None


def test_without_a_control_the_raw_number_stays() -> None:
    found = of(U, r=None)
    assert (found.excess, found.share, found.why_no_share) == (None, None, NO_CONTROL)
    assert found.recovered == pytest.approx(sum(U.values()) / 12)
    assert of(U, f=None).why_no_share == NO_CEILING
    assert of(U, f=None).excess == pytest.approx(of(U).excess)


def test_there_is_no_share_where_the_control_is_as_good_as_the_unedited_model() -> None:
    found = of(U, f={fact: value + 0.01 for fact, value in R.items()})
    assert found.share is None
    assert "too close" in found.why_no_share


def test_facts_of_one_group_have_no_interval() -> None:
    found = numbers(U, R, F, U, dict.fromkeys(FACTS, "one author"), 0.05)
    assert found is not None
    assert (found.share_ci, found.excess_ci) == (None, None)
    assert found.share == pytest.approx(of(U).share)


def test_a_score_that_compares_by_itself_is_the_share() -> None:
    found = relative_numbers(dict.fromkeys(FACTS, 0.75), GROUPS)
    assert found is not None
    assert (found.share, found.share_ci, found.control, found.ceiling) == (0.75, (0.75, 0.75), 0.0, 1.0)


def test_a_control_of_other_facts_is_not_paired() -> None:
    others = {f"other {n}": value for n, value in enumerate(R.values())}
    groups = GROUPS | {fact: f"other author {n // 3}" for n, fact in enumerate(others)}
    found = numbers(U, others, F, U, groups, 0.05, apart=True)
    assert found is not None
    u, r, f = (sum(values.values()) / len(FACTS) for values in (U, R, F))
    assert (found.n, found.groups) == (12, 4)
    assert (found.excess, found.share) == (pytest.approx(u - r), pytest.approx((u - r) / (f - r)))
    paired = of(U)
    assert found.excess_ci is not None
    assert paired.excess_ci is not None
    assert found.excess_ci[1] - found.excess_ci[0] > paired.excess_ci[1] - paired.excess_ci[0], "their groups vary by themselves"
    alone = numbers(U, others, None, U, groups, 0.05, apart=True)
    assert alone is not None
    assert (alone.excess, alone.share, alone.why_no_share) == (found.excess, None, NO_CEILING)
    nothing = numbers(U, {}, F, U, groups, 0.05, apart=True)
    assert nothing is not None
    assert (nothing.excess, nothing.why_no_share) == (None, NO_CONTROL)
