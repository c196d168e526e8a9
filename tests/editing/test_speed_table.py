"""The plain restatement of the reference's loop makes the same edit as the product, jointly and one by one."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import bench_edit, tables, timing
from unierase_cli.config.sections.model import TrainConfig


@pytest.mark.slow
def test_both_sides_of_the_speed_table_change_the_weights_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = TrainConfig(hidden_size=32, intermediate_size=48, layers=4, heads=2, vocabulary=300)
    lines = bench_edit.compared(sizes, facts=2, texts=12, layers=[1, 2], repeats=1)
    assert [line[0] for line in lines] == ["joint", "one by one", "second moments"]
    assert all(float(line[5]) < 1e-2 for line in lines)
    timing.write_csv(tmp_path / "edit-speed.csv", "bench_edit", [bench_edit.HEADINGS, *lines])
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    assert tables.read("edit-speed") == [bench_edit.HEADINGS, *lines]
