"""Whether a section of a recorded configuration is the current one, however old the version that recorded it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any


def same_section(recorded: Mapping[str, Any], wanted: Any, left_out: Sequence[str] = ()) -> bool:
    """Whether a recorded section equals ``wanted``, a section of the schema, in all but the keys ``left_out``.

    A key that was not recorded is newer than the record, which was made as its default still does.
    """
    there = {**asdict(type(wanted)()), **recorded}
    return {k: v for k, v in there.items() if k not in left_out} == {k: v for k, v in asdict(wanted).items() if k not in left_out}
