"""What cases of relearning are called, and the case that leaves the unlearning tokens' rows alone."""

from __future__ import annotations

from collections.abc import Sequence

from unierase_cli.audit.base import Case


def rate_name(lr: float, whole: bool) -> str:
    """What is trained, and how fast."""
    return f"{'all weights' if whole else 'LoRA'}, lr {lr:g}"


def with_frozen_rows(cases: Sequence[Case]) -> list[Case]:
    """The cases, and their first one that trains all weights once more with the unlearning tokens' rows as they are.

    Relearning may only make the token less likely, which says little about the facts; here it cannot. Adapters never train rows.
    """
    whole = next((case for case in cases if case.values["whole"]), None)
    if whole is None:
        return list(cases)
    name = f"{whole.name}, token rows frozen"
    return [*cases, Case(name, {**whole.values, "frozen": True}, token=True, without_token=whole.name)]
