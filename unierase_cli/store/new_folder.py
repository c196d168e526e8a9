"""Creates a folder at a path given by the user, completely or not at all, without touching the user's own files."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unierase_cli.contracts import UserError
from unierase_cli.signals import ending_like_ctrl_c
from unierase_cli.store.refusals import FORBIDDEN, GONE, NO_ROOM, READ_ONLY, TOO_LARGE, as_user_error, causes, number_of
from unierase_cli.store.whole import PART, unused

ANOTHER = "name a new folder"
# Errors that only occur when writing.
WRITING = (*NO_ROOM, *TOO_LARGE, *READ_ONLY)
TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR)


def check_free(destination: Path) -> Path:
    """The real path of ``destination``, following links and ``..``. Nothing is written.

    Raises UserError if something exists there, or if it is not writable.
    """
    place = Path(os.path.realpath(destination))
    if os.path.lexists(place) and not place.is_dir():
        raise UserError(f"{destination} exists and is not a folder", ANOTHER)
    ground = next(folder for folder in (place, *place.parents) if os.path.lexists(folder))
    if not ground.is_dir():
        raise UserError(f"{destination} cannot be made: {ground} is not a folder", ANOTHER)
    if not os.access(ground, os.W_OK | os.X_OK | (os.R_OK if ground == place else 0)):
        read_only = os.statvfs(ground).f_flag & os.ST_RDONLY
        why = "its file system is read-only" if read_only else f"you may not write to {ground}"
        raise UserError(f"{destination} cannot be written: {why}", ANOTHER)
    if ground == place:
        _check_empty(place, destination)
    return place


@contextmanager
def new_folder(destination: Path) -> Iterator[Path]:
    """An empty folder to write to, whose content appears at ``destination`` at the end.

    After an error or a signal to terminate, everything written is removed. An existing empty folder is kept and filled, because it
    may be a mount point, a working directory, or have special permissions. Raises UserError as ``check_free`` does, if another
    process was faster, or if the system refuses to write.
    """
    place = check_free(destination)
    there = place.exists()
    partial = unused(place / "new" if there else place)
    made: list[Path] = []
    try:
        with ending_like_ctrl_c():
            made = _make_missing(place if there else place.parent)
            partial.mkdir()
            try:
                yield partial
                if there:
                    _fill(place, partial, destination)
                else:
                    _name(place, partial, destination)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
    except KeyboardInterrupt as error:
        _remove(made)
        raise KeyboardInterrupt(f"nothing was written to {destination}") from error
    except BaseException as error:
        _remove(made)
        told = _refusal(error, place, destination)
        if told is None:
            raise
        raise told from error


def _check_empty(place: Path, destination: Path, own: Path | None = None) -> None:
    found = [path for path in place.iterdir() if path != own]
    if all(path.name.startswith(".") and path.suffix == PART for path in found) and found:
        raise UserError(
            f"{destination} is being written to, or is left over from a killed command",
            f"{ANOTHER}, or remove {found[0]} once no other command runs",
        )
    if found:
        raise UserError(f"{destination} exists and is not empty", ANOTHER)


def _make_missing(folder: Path) -> list[Path]:
    """Make a folder and its missing parents; return those that were made, innermost first."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
    return missing


def _remove(made: list[Path]) -> None:
    for folder in made:
        with suppress(OSError):
            folder.rmdir()


def _name(place: Path, partial: Path, destination: Path) -> None:
    try:
        partial.rename(place)
    except OSError as error:
        if error.errno not in TAKEN:
            raise
        raise UserError(f"{destination} was created by somebody else meanwhile", ANOTHER) from error


def _fill(place: Path, partial: Path, destination: Path) -> None:
    """Move everything into the parent folder, oldest first, so that the record, written last, comes last."""
    _check_empty(place, destination, partial)
    moved: list[Path] = []
    try:
        for path in sorted(partial.iterdir(), key=lambda path: path.stat().st_mtime_ns):
            moved.append(path.rename(place / path.name))
        partial.rmdir()
    except BaseException:
        for path in moved:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        raise


def _refusal(error: BaseException, place: Path, destination: Path) -> UserError | None:
    """The one-line error for a write that the system refused; None for any other error."""
    for cause in causes(error):
        number, name = number_of(cause), getattr(cause, "filename", None)
        at_home = isinstance(name, str) and Path(name).is_relative_to(place.parent)
        if number in WRITING or (number in (*FORBIDDEN, *GONE) and at_home):
            found = OSError(number, os.strerror(number or 0), str(destination))
            again = "nothing was kept, run the same command again"
            return as_user_error(found, again=again, elsewhere=ANOTHER)
    return None
