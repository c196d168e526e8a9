"""Curves of relearning: when a model is half-way back, and how much sooner than the control."""

from __future__ import annotations

import pytest

from unierase_cli.audit.base import Row
from unierase_cli.audit.curves import curve, reaches, when
from unierase_cli.audit.series import Curve, Point
from unierase_cli.stages.shared.audit_series import blocks_of, curve_of, rounding_of

GROUPS = {"a": "A", "b": "B"}


def constant(*looks: tuple[float, float]) -> dict[float, dict[str, float]]:
    return {at: {"a": value, "b": value} for at, value in looks}


def of(**models: dict[float, dict[str, float]]) -> Curve:
    found = curve("relearn_part", "10 %", "steps", models, GROUPS)
    assert found is not None
    return found


def test_a_level_is_reached_between_two_looks_in_proportion() -> None:
    line = [Point(0, 0.1), Point(10, 0.3), Point(50, 0.7)]
    assert reaches(line, 0.5) == pytest.approx(30)
    assert reaches(line, 0.3) == pytest.approx(10)
    assert reaches(line, 0.1) == 0
    assert reaches(line, 0.8) is None


def test_speed_is_compared_with_the_control_at_half_of_the_unedited_model() -> None:
    ceiling = constant((0, 1.0), (10, 1.0))
    found = of(unlearned=constant((0, 0.0), (10, 0.5)), control=constant((0, 0.0), (40, 0.5)), ceiling=ceiling)
    assert found.level == 0.5
    assert found.reached == {"unlearned": 10.0, "control": 40.0, "ceiling": 0.0}
    assert (found.faster, found.at_least) == (2.0, False)


def test_a_control_that_never_gets_there_gives_a_bound() -> None:
    ceiling = constant((0, 1.0), (40, 1.0))
    found = of(unlearned=constant((0, 0.0), (10, 0.5)), control=constant((0, 0.0), (40, 0.2)), ceiling=ceiling)
    assert (found.faster, found.at_least) == (2.0, True)
    never = of(unlearned=constant((0, 0.0), (10, 0.2)), control=constant((0, 0.0), (40, 0.2)), ceiling=ceiling)
    assert never.faster is None
    assert of(unlearned=constant((0, 0.0), (10, 0.2))).level is None


def test_a_band_is_the_interval_over_groups() -> None:
    spread = of(unlearned={0: {"a": 0.0, "b": 1.0}, 5: {"a": 0.5, "b": 0.5}})
    assert spread.unlearned == [Point(0, 0.5, (0.0, 1.0)), Point(5, 0.5, (0.5, 0.5))]


@pytest.mark.parametrize(
    ("at", "found"), [("50 steps", (50.0, "steps")), ("1 epoch", (1.0, "epochs")), ("", None), ("6 days", None), ("end", None)]
)
def test_looks_are_read_from_their_names(at: str, found: tuple[float, str] | None) -> None:
    assert when(at) == found


def row(fact: str, text: str, at: str = "", split: str = "forget") -> Row:
    return Row(fact, "Who?", "one two", text, at=at, split=split)


def test_a_curve_begins_with_plain_questions_and_holds_the_facts_that_all_models_were_asked() -> None:
    plain = [row(fact, "one") for fact in "abc"]
    looks = [row(fact, "one two", at) for at in ("2 epochs", "1 epoch") for fact in "ab"]
    control = [row("b", "", at) for at in ("1 epoch", "2 epochs")]
    rows = {"unlearned": [*looks, row("c", "", "2 epochs", "trained")], "control": control}
    found = curve_of("relearn_groups", "x", rows, {"unlearned": plain, "control": plain}, GROUPS, apart=False)
    assert found is not None
    assert found.unit == "epochs"
    assert [(point.at, point.mean) for point in found.unlearned] == [(0, 0.5), (1, 1.0), (2, 1.0)]
    apart = curve_of("relearn_groups", "x", rows, {"unlearned": plain, "control": plain}, GROUPS, apart=True)
    assert apart is not None
    assert apart.unlearned[0].interval == (0.5, 0.5)
    assert curve_of("int8", "x", {"unlearned": plain}, {"unlearned": plain}, GROUPS, apart=False) is None


def test_blocks_are_averaged_over_the_facts_that_they_encode() -> None:
    first = {"intact": 0.5, "block 0": 0.5, "lost by the control in 0": 2.0, "lost in 0": 1.0}
    second = {"intact": 0.0, "block 0": 0.0, "lost by the control in 0": 4.0, "lost in 0": 4.0, "block 1": 1.0}
    rows = [Row(name, "", "", "", scores=scores) for name, scores in {"a": first, "b": second}.items()]
    one, two = blocks_of("uds", "plain prompt", rows)
    assert (one.block, one.n, one.intact, one.lost_by_control, one.lost) == (0, 2, 0.25, 3.0, 2.5)
    assert (two.n, two.intact, two.lost) == (1, 1.0, None)
    assert blocks_of("prefix", "4 given", [row("a", "one")]) == []


def test_rounding_is_told_matrix_by_matrix() -> None:
    (told,) = rounding_of("int4", [Row("blocks.0.down", "", "", "", scores={"undone": 0.75, "largest": 0.3})])
    assert (told.setting, told.matrix, told.undone, told.largest) == ("int4", "blocks.0.down", 0.75, 0.3)
