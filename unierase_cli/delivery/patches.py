"""Chooses the steps of a run to apply to a model, and checks their order and completeness."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from unierase_cli.contracts import UserError
from unierase_cli.modes.base import load_mode
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.patch_files import (
    PatchRecord,
    Place,
    claimed_steps,
    first_gap,
    places_of,
    read_record,
    step_numbers,
)

if TYPE_CHECKING:
    from unierase_cli.editing.patch import Patch


@dataclass(frozen=True)
class Chosen:
    """Steps of an erase artefact in order; ``dropped`` are the steps left out, ``parts_dropped`` the parts of every step."""

    erasure: Artefact
    steps: tuple[int, ...]
    dropped: tuple[int, ...] = ()
    parts_dropped: tuple[str, ...] = ()

    def places(self) -> Iterator[Place]:
        """Every part of every step, in order."""
        for step in self.steps:
            record = read_record(self.erasure.whole, step)
            for name, place in zip(record.parts or [""], places_of(record, step), strict=True):
                if name not in self.parts_dropped:
                    yield place

    def patches(self) -> Iterator[Patch]:
        """The patches of the parts, read one at a time."""
        from unierase_cli.editing.patch import Patch

        return (Patch.read(self.erasure.whole, place) for place in self.places())

    def records(self) -> Iterator[PatchRecord]:
        """The content of each part's json."""
        return (read_record(self.erasure.whole, *place) for place in self.places())

    @property
    def dtype(self) -> str | None:
        """Data type of the weights that the patches were made on; None if they change no weights."""
        kinds = {value.partition(":")[0] for record in self.records() for value in record.base_hashes.values()}
        return kinds.pop() if len(kinds) == 1 else None


def choose_steps(
    erasure: Artefact, until: int | None = None, drop: Sequence[int] = (), parts: Sequence[str] = (), *, replanned: bool = False
) -> Chosen:
    """All steps of a run, or those up to and including ``until``, except those in ``drop``; of each all parts but ``parts``.

    If each step starts from the original model (precise mode), ``until`` is the only step taken. ``replanned``: the kept steps
    are to be computed again. Raises UserError if steps are missing or out of order, if a named step does not exist, or if what
    is left out is contained in what is kept.
    """
    found, name = step_numbers(erasure), erasure.name
    if not found:
        raise UserError(f"{erasure.path} has no patch", "the artefact is damaged: make it again with --force")
    count = max(found[-1] + 1, erasure.summary.get("steps") or 0)
    if (missing := first_gap(found, count)) is not None:
        raise UserError(
            f"the patch of step {missing} of {name} is missing: only steps {listed(found)} of {count} are there",
            "copy all of its patch files, or make the run again with --force",
        )
    for index, recorded in claimed_steps(erasure):
        if recorded != index:
            raise UserError(
                f"the patches of {name} are out of order: the file of step {index} contains step {recorded}",
                "restore the original file names: every step was computed on those before it",
            )
    for step in (*drop, *([] if until is None else [until])):
        if step not in found:
            raise UserError(f"{name} has no step {step}", f"choose one of: {listed(found)}")
    erasure.check()
    mode = erasure.config["mode"]["name"]
    if len(found) > 1 and getattr(load_mode(mode), "INDEPENDENT", False):
        if until is None or drop:
            raise UserError(
                f"each step of {name} starts from the original model (mode={mode})", "name one of them: --step 0"
            )
        return _without_parts(Chosen(erasure, (until,)), parts)
    upto = [step for step in found if until is None or step <= until]
    kept = tuple(step for step in upto if step not in drop)
    if not kept:
        raise UserError(f"nothing is left of {name} without step {listed(drop)}", "keep at least one step")
    chosen = _without_parts(Chosen(erasure, kept, tuple(sorted({*drop} & {*upto}))), parts)
    if not replanned:
        _check_left_out(chosen)
    return chosen


def split_drop(words: Sequence[str]) -> tuple[list[int], list[str]]:
    """The numbers of steps and the names of parts among the values of ``--drop``."""
    return [int(word) for word in words if word.isdecimal()], [word for word in words if not word.isdecimal()]


def _without_parts(chosen: Chosen, parts: Sequence[str]) -> Chosen:
    """The steps without these parts. Raises UserError for a part that the run lacks, or whose change a later part contains."""
    if not parts:
        return chosen
    name, folder = chosen.erasure.name, chosen.erasure.whole
    changed: dict[str, set[str]] = {}
    for step in chosen.steps:
        record = read_record(folder, step)
        for part, place in zip(record.parts, places_of(record, step), strict=bool(record.parts)):
            about = read_record(folder, *place)
            for earlier in {*parts} & {*changed} - {part}:
                if part not in parts and changed[earlier] & {*about.dense}:
                    raise UserError(
                        f"{name} has no change by {earlier} alone: {part} was trained on top of it and replaces the same tensors",
                        f"leave out both: --drop {earlier} --drop {part}",
                    )
            changed.setdefault(part, set()).update(_changed(about))
    if missing := [part for part in parts if part not in changed]:
        known = f"its parts are {', '.join(changed)}" if changed else "its method has no parts: name steps by number"
        raise UserError(f"{name} has no part {missing[0]}", known)
    if not {*changed} - {*parts}:
        raise UserError(f"nothing is left of {name} without {', '.join(parts)}", "keep at least one part")
    return replace(chosen, parts_dropped=tuple(dict.fromkeys(parts)))


def _check_left_out(chosen: Chosen) -> None:
    """Raise UserError if a kept step replaces a tensor that a dropped one had changed, and so contains its change."""
    for step in chosen.dropped:
        changed = {name for record in replace(chosen, steps=(step,)).records() for name in _changed(record)}
        later = replace(chosen, steps=tuple(kept for kept in chosen.steps if kept > step))
        covering = [place[0] for place, record in zip(later.places(), later.records(), strict=True) if changed & {*record.dense}]
        if covering:
            stepwise = getattr(load_mode(chosen.erasure.config["mode"]["name"]), "STEPWISE", False)
            everything = " ".join(f"--drop {one}" for one in dict.fromkeys([step, *covering]))
            raise UserError(
                f"step {step} of {chosen.erasure.name} cannot be left out alone: step {covering[0]} was trained on top of it and "
                "replaces the same tensors",
                "add --replan, which computes the later steps again" if stepwise else f"leave out all of them: {everything}",
            )


def _changed(record: PatchRecord) -> set[str]:
    """Names of the tensors that a part changes; a layer's change is recorded by the name of its projection."""
    return {*record.dense, *record.named, *(f"{name}.weight" for name in record.base_hashes)}


def later_steps(chosen: Chosen, dropped: int) -> list[int]:
    """Kept steps that were computed with the step ``dropped`` applied."""
    return [step for step in chosen.steps if step > dropped]


def listed(numbers: Sequence[int]) -> str:
    """Numbers separated by commas."""
    return ", ".join(map(str, numbers))
