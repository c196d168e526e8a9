"""Objectives made of others: several in one step, and several in turns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from unierase_cli.training.loop import Objective


class Together:
    """Adds up the losses of several objectives in every step; parts of one name are added too."""

    def __init__(self, *members: Objective) -> None:
        self.members = members
        self.state: dict[str, float] = {}

    def micro_losses(self, step: int) -> Iterator[tuple[Tensor, dict[str, float]]]:
        for member in self.members:
            yield from member.micro_losses(step)

    def after_step(self, step: int, parts: dict[str, float]) -> str | None:
        reasons = [member.after_step(step, parts) for member in self.members]
        return next((reason for reason in reasons if reason is not None), None)

    def shrink(self) -> bool:
        return any(member.shrink() for member in self.members)


class InTurns:
    """Objective ``t % n`` in step ``t``, as its step ``t // n``; one optimiser sees them all."""

    def __init__(self, members: Sequence[Objective]) -> None:
        self.members = members
        self.state: dict[str, float] = {}

    def micro_losses(self, step: int) -> Iterator[tuple[Tensor, dict[str, float]]]:
        turn, place = divmod(step, len(self.members))
        yield from self.members[place].micro_losses(turn)

    def after_step(self, step: int, parts: dict[str, float]) -> str | None:
        turn, place = divmod(step, len(self.members))
        return self.members[place].after_step(turn, parts)

    def shrink(self) -> bool:
        return any(member.shrink() for member in self.members)
