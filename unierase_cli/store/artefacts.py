"""Versioned artefacts: the only code that knows the layout ``outputs/<stage>/<slug>/v<NNN>/``.

A version is complete once its ``manifest.json`` exists (written last, atomically, with the hash of every other file). A version
without a manifest was interrupted; the next run with the same key resumes it. A complete version is never written to again.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from unierase_cli.contracts import UserError
from unierase_cli.store.artefact import LOG, MANIFEST, Artefact, found_artefact, listed_artefact, read_artefact
from unierase_cli.store.hashing import file_records
from unierase_cli.store.json_text import DESCRIPTION, read_json, write_json
from unierase_cli.store.locks import held
from unierase_cli.store.whole import clear_discarded, clear_left_behind, discard, flush_to_disk

KEY_FILE = ".key.json"
# Seconds added to the latest artefact's time if the clock was set back.
MOMENT = 1e-3


@dataclass
class Draft:
    """A version that is being written. ``resuming``: it contains files of an interrupted run with the same key."""

    path: Path
    resuming: bool

    def discard_if_empty(self) -> None:
        """Remove the version if it has no files that a later run could resume from."""
        if {path.name for path in self.path.iterdir()} <= {KEY_FILE, LOG}:
            discard(self.path)

    def complete(self, manifest: dict[str, Any]) -> Artefact:
        """Write the manifest, which makes the version visible, with the size and hash of every file in ``files``.

        If the clock was set back since the store's latest artefact, ``order`` records a time later than that artefact's.
        """
        clear_left_behind(self.path)
        manifest = {**manifest, "files": file_records(self.path)}
        latest = max((artefact.order for artefact in Store(self.path.parents[2]).overview()), default=0.0)
        if manifest.get("finished", latest) < latest:
            manifest["order"] = latest + MOMENT
        flush_to_disk(self.path)
        write_json(self.path / MANIFEST, manifest)
        (self.path / KEY_FILE).unlink(missing_ok=True)
        return Artefact(self.path, manifest)


class Store:
    """All artefacts below one outputs folder. ``once``: the folder is read only once, for commands that make none."""

    def __init__(self, root: str | Path, *, once: bool = False) -> None:
        self.root = Path(root)
        self._once = once
        self._listed: list[Artefact] | None = None

    def _read(self, stage: str | None, key: str = "", *, quickly: bool = False) -> list[Artefact]:
        """The artefacts in the folder; with ``key`` only those whose manifest has this text somewhere."""
        read = listed_artefact if quickly else found_artefact
        # Parsing a manifest takes far longer than searching it for a key.
        paths = (path for path in self.root.glob(f"{stage or '*'}/*/v*/{MANIFEST}") if not key or _has(path, key))
        found = [artefact for path in paths if (artefact := read(path.parent)) is not None]
        return sorted(found, key=lambda a: (a.order, a.path.as_posix()))

    def overview(self, stage: str | None = None) -> list[Artefact]:
        """As ``list``, several times as fast, for tables: damage in a part of a manifest that no table shows goes unnoticed."""
        return self._read(stage, quickly=True)

    def list(self, stage: str | None = None) -> list[Artefact]:
        """Complete artefacts, oldest first."""
        if not self._once:
            return self._read(stage)
        if self._listed is None:
            self._listed = self._read(None)
        return [artefact for artefact in self._listed if stage in (None, artefact.path.parents[1].name)]

    def find(self, stage: str, key: str) -> Artefact | None:
        """The newest complete artefact with this key."""
        return self._with_key(key, stage)

    def _with_key(self, key: str, stage: str | None = None) -> Artefact | None:
        known = self.list(stage) if self._once else self._read(stage, key)
        matches = [a for a in known if a.key == key]
        return matches[-1] if matches else None

    def inputs_of(self, artefact: Artefact) -> dict[str, Artefact | None]:
        """The artefacts it was made from, by input name; None for artefacts that no longer exist."""
        return {name: self.input_of(artefact, name) for name in artefact.manifest.get("inputs", {})}

    def input_of(self, artefact: Artefact, name: str) -> Artefact | None:
        """The input artefact of that name: at the recorded path or, if the outputs folder was moved, by the recorded key.

        A path outside of this outputs folder and the artefact's own is not followed.
        """
        record = artefact.manifest.get("inputs", {}).get(name)
        if record is None:
            return None
        place = Path(record["path"])
        if any(_within(place, root) for root in (self.root, *artefact.path.absolute().parents[2:3])):
            found = found_artefact(place)
            if found is not None and found.key == record["key"]:
                return found
        return self._with_key(record["key"])

    def interrupted(self, stage: str, slug: str, key: str) -> Path | None:
        """The newest version folder that a run with this key left incomplete."""
        for path in sorted((self.root / stage / slug).glob("v*"), reverse=True):
            if not (path / MANIFEST).exists() and _key_of(path) == key:
                return path
        return None

    def unfinished(self, stage: str, slug: str) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Every incomplete version folder, with the settings that its run was started with (``settings`` of ``draft``)."""
        for path in sorted((self.root / stage / slug).glob("v*")):
            if not (path / MANIFEST).exists() and (path / KEY_FILE).exists():
                with suppress(OSError, ValueError, AttributeError):
                    yield path, read_json(path / KEY_FILE).get("settings", {})

    @contextmanager
    def lock(self, stage: str, slug: str, key: str, waiting: Callable[[str], None]) -> Iterator[None]:
        """Hold the key while a version is made; a second process waits. The lock of a dead process is free.

        The lock file lies beside the slug folders, because a seed that a stage does not read is part of its slug but not of its
        key. Raises UserError if the folder is not writable or the file system does not support locks.
        """
        folder = self.root / stage
        _make_folder(folder)
        lock = held(
            folder / f".{key[:16]}.lock",
            lambda: waiting(f"another process is making {stage}/{slug}; waiting for it"),
            "choose a folder on another one with --outputs",
        )
        with ExitStack() as stack:
            try:
                stack.enter_context(lock)
            except OSError as error:
                raise _cannot_write(folder, error) from error
            yield

    def draft(
        self, stage: str, slug: str, key: str, *, fresh: bool = False, settings: dict[str, Any] | None = None
    ) -> Draft:
        """Open a version for writing: the interrupted one of this key, else one with the next number."""
        folder = self.root / stage / slug
        left = self.interrupted(stage, slug, key)
        if left is not None and not fresh:
            clear_left_behind(left)
            return Draft(left, resuming=True)
        if left is not None:
            discard(left)
        _make_folder(folder)
        clear_discarded(folder)
        # The key file exists from the start: a folder without it would match no run and stay forever.
        new = folder / f".new-{key[:16]}"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        write_json(new / KEY_FILE, {"key": key, "started": time.time(), "settings": settings or {}})
        while True:
            numbers = [int(p.name[1:]) for p in folder.glob("v*") if re.fullmatch(r"v\d+", p.name)]
            path = folder / f"v{max(numbers, default=0) + 1:03d}"
            try:
                new.rename(path)
            except OSError as error:
                if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
                    continue  # another process took the number between the listing and the renaming
                raise
            return Draft(path, resuming=False)

    def resolve(self, run: str, stage: str | None = None) -> Artefact:
        """The artefact that a user means: a path, ``slug@v003``, a unique prefix of a key, or ``latest``.

        ``latest`` is the newest artefact of a run; artefacts made from many runs have no configuration. Raises UserError if
        nothing matches, or more than one artefact does.
        """
        if os.path.exists(Path(run) / MANIFEST):  # unlike Path.exists, False for names that the file system rejects
            try:
                return read_artefact(Path(run))
            except (OSError, ValueError) as error:
                raise UserError(f"{Path(run) / MANIFEST} is damaged: {error}", "make that run again") from error
        everything = self.list(stage)
        if not everything:
            what = f" of stage {stage}" if stage else ""
            hint = "`unierase run experiment=demo` makes some, or name the folder that has them with --outputs"
            raise UserError(f"no finished artefact{what} in {self.root}", hint)
        if run == "latest":
            return next((a for a in reversed(everything) if "config" in a.manifest), everything[-1])
        ending = "/" + run.rstrip("/")
        named = [a for a in everything if run in (a.name, a.full_name) or a.path.as_posix().endswith(ending)]
        matches = named or [a for a in everything if len(run) >= 4 and a.key.startswith(run)]
        if len({a.path for a in matches}) == 1:
            return matches[0]
        if matches:
            names = ", ".join(a.full_name for a in matches[:5])
            raise UserError(f"{run} means several artefacts: {names}", "give one of these names, or more of the key")
        near = get_close_matches(run, [a.name for a in everything], n=1)
        raise UserError(
            f"no artefact is called {run}", f"did you mean {near[0]}?" if near else "`unierase ls` lists them"
        )


def _within(path: Path, root: Path) -> bool:
    """Whether a path is inside a folder, following symbolic links."""
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):  # a name that is too long, a symlink loop
        return False


def _has(path: Path, text: str) -> bool:
    """Whether a small file contains the text; False for one that cannot be read."""
    with suppress(OSError), path.open("rb") as stream:
        return text.encode() in stream.read(DESCRIPTION)
    return False


def _key_of(path: Path) -> str | None:
    try:
        key: str = read_json(path / KEY_FILE)["key"]
        return key
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(folder, error) from error


def _cannot_write(folder: Path, error: OSError) -> UserError:
    return UserError(f"cannot write to {folder}: {error.strerror}", "choose another folder with --outputs")
