"""Which fields of the configuration count for results is said on the fields themselves."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from unierase_cli.config.counted import BY_CONTENT, UNCOUNTED, counted, uncounted_keys
from unierase_cli.config.schema import Experiment


@dataclass(frozen=True)
class Part:
    size: int = 1
    note: str = field(default="", metadata=UNCOUNTED)


@dataclass(frozen=True)
class Section:
    part: Part = field(default_factory=Part)
    parts: list[Part] = field(default_factory=lambda: [Part(2, "two")])
    file: str | None = field(default=None, metadata=BY_CONTENT)
    name: str = field(default="default", metadata=UNCOUNTED)
    rate: float = 0.5


def test_marked_fields_are_left_out_wherever_they_stand() -> None:
    assert counted(Section()) == {"part": {"size": 1}, "parts": [{"size": 2}], "rate": 0.5}
    assert counted(replace(Section(), file="other", name="other")) == counted(Section())


def test_only_fields_that_change_no_result_are_uncounted_not_those_that_count_by_their_content() -> None:
    assert uncounted_keys(Section()) == ["part.note", "name"]
    found = uncounted_keys(Experiment())
    assert {"run.outputs", "run.tracker", "token.improbable", "edit.moments.batch_tokens", "model.note"} <= set(found)
    assert not {"run.seed", "token.targets", "mode.tasks", "method.name", "adapter.name"} & set(found)
