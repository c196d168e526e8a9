"""What causal tracing found, as lines, tables and a picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from unierase_cli.results.one_run.trace_picture import draw
from unierase_cli.results.one_run.trace_record import Curve, Trace, Window, conclusions
from unierase_cli.results.one_run.trace_tables import trace_tables

LAST, END = "last subject token", "last prompt token"


def curve(kind: str, position: str, mean: list[float], facts: int = 5) -> Curve:
    low, high = ([value - 0.01 for value in mean], [value + 0.01 for value in mean]) if facts > 1 else ([], [])
    return Curve(kind, position, "probability", facts, mean, low, high)


TRACE = Trace(
    blocks=4,
    window=2,
    asked=9,
    answered=6,
    facts=5,
    skipped={"without a subject": 2, "the model does not answer them": 1},
    clean={"probability": 0.75, "log_prob": -0.5},
    corrupted={"probability": 0.25, "log_prob": -2.0},
    curves=[
        curve("residual", LAST, [0.4, 0.3, 0.2, 0.0]),
        curve("residual", END, [0.0, 0.1, 0.3, 0.5]),
        curve("mlp", LAST, [0.0, 0.1, 0.3, 0.2]),
        curve("mlp", END, [0.0, 0.0, -0.1, 0.4]),
    ],
    default=[0, 1],
    windows=[Window("subject_last", LAST, [1, 2], 2), Window("prompt_last", END, [0, 1], 1), Window("prompt_last", END, [1, 2], 2)],
)


def test_the_lines_say_what_was_traced_where_the_effects_are_and_which_blocks_an_edit_would_take() -> None:
    assert conclusions(TRACE) == [
        "5 facts traced of 6 that the model answers, of 9 to forget; 2 skipped (without a subject); "
        "1 skipped (the model does not answer them)",
        "probability of the answer's first token: 0.750, with noise on the subject 0.250 (total effect 0.500)",
        "residual: largest at the last prompt token, block 3: 0.500 [0.490, 0.510]",
        "mlp: largest at the last prompt token, block 3: 0.400 [0.390, 0.410]",
        "edit.layers=[1,2] are the blocks whose MLPs have the largest effect at the last subject token (0.300 [0.290, 0.310]; "
        "key_position=subject_last); the default rule takes [0,1] (0.100 [0.090, 0.110])",
        "edit.layers=[0,1] are the blocks whose MLPs have the largest effect at the last prompt token (0.000 [-0.010, 0.010]; "
        "key_position=prompt_last); without block 0 [1,2] (-0.100 [-0.110, -0.090]); "
        "the default rule takes [0,1] (0.000 [-0.010, 0.010])",
    ]


def test_the_default_has_no_number_where_its_blocks_are_no_window_that_was_restored() -> None:
    assert conclusions(replace(TRACE, window=3))[-1].endswith("the default rule takes [0,1]")


def test_a_single_fact_has_no_interval() -> None:
    one = replace(TRACE, curves=[curve("residual", LAST, [0.4, 0.3, 0.2, 0.0], facts=1)], windows=[])
    assert conclusions(one)[-1] == "residual: largest at the last subject token, block 0: 0.400"


def test_a_table_per_kind_has_blocks_down_classes_across_and_the_largest_in_bold() -> None:
    residual, mlp = trace_tables(TRACE)
    assert residual.title == "Restored: one block's output"
    assert mlp.title == "Restored: MLP outputs in a window of 2 blocks"
    assert mlp.columns == ("block", f"{LAST}\n(5 facts)", f"{END}\n(5 facts)")
    assert mlp.rows[2] == ("2", "+0.300", "-0.100")
    assert mlp.strong == {(2, 1), (3, 2)}


def test_the_picture_is_a_png_with_a_panel_per_kind(tmp_path: Path) -> None:
    from PIL import Image

    sizes = []
    for number, trace in enumerate((TRACE, replace(TRACE, curves=TRACE.curves[:2]))):
        draw(trace, tmp_path / f"{number}.png", title="a model: 5 facts")
        with Image.open(tmp_path / f"{number}.png") as image:
            assert image.format == "PNG"
            sizes.append(image.width)
    assert sizes[0] > 1.5 * sizes[1]
