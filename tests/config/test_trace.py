"""What the section ``trace`` refuses."""

from __future__ import annotations

from typing import Any

import pytest

from unierase_cli.config.sections.trace import TraceConfig
from unierase_cli.contracts import UserError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noise": 0.0}, "trace.noise=0.0 must be above 0"),
        ({"samples": 0}, "trace.samples=0 must be above 0"),
        ({"facts": -1}, "trace.facts=-1 must be at least 0"),
        ({"floor": 1.5}, "trace.floor=1.5 must lie between 0 and 1"),
        ({"window": 0}, "trace.window=0 must be above 0"),
        ({"class_tokens": -1}, "trace.class_tokens=-1 must be at least 0"),
        ({"kinds": ["mpl"]}, "trace.kinds=mpl is not a choice - did you mean trace.kinds=mlp"),
        ({"kinds": []}, "must name each kind once, at least one"),
        ({"kinds": ["mlp", "mlp"]}, "must name each kind once"),
    ],
)
def test_settings_that_trace_nothing_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TraceConfig(**settings)
