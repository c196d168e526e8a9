"""One complete artefact: its folder ``outputs/<stage>/<slug>/v<NNN>/``, its manifest, and the check of its files against it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn, TypeVar

from msgspec import DecodeError, defstruct
from msgspec.json import Decoder

from unierase_cli.contracts import UserError
from unierase_cli.store.hashing import recorded_hash
from unierase_cli.store.json_text import Finite, decoded, parse_json, read_bytes, read_json

MANIFEST = "manifest.json"
LOG = "log.txt"
PEAKS = [("peak_memory_mib", Finite | None, None), ("peak_gpu_memory_mib", Finite | None, None)]
# Every manifest key that is read anywhere, with its type; a folder whose manifest does not match is not an artefact.
MANIFEST_KIND = defstruct(
    "Manifest",
    [
        ("stage", str), ("key", str), ("slug", str, ""), ("version", str, ""), ("stage_version", int | None, None),
        ("seed", int | None, None), ("started", Finite, 0.0), ("finished", Finite, 0.0), ("order", Finite | None, None),
        ("wall_seconds", Finite, 0.0), ("cpu_seconds", Finite | None, None), ("resumed", bool | None, None), *PEAKS,
        ("options", dict[str, str], {}), ("config", dict[str, dict[str, Any]], {}),
        ("fingerprints", dict[str, Any], {}),
        ("inputs", dict[str, defstruct("Input", [("path", str), ("key", str)])], {}),  # type: ignore[misc]
        ("files", dict[str, defstruct("File", [("size", int), ("sha256", str)])], {}),  # type: ignore[misc]
        ("summary", defstruct("Summary", [("steps", int | None, None), ("run_steps", int | None, None)]) | None, None),
        ("environment", defstruct("Environment", [("packages", dict[str, str], {}), ("git_commit", str | None, None)]), None),
        ("machine", defstruct("Machine", [("device", str, ""), ("threads", int | None, None)]), None),
        ("phases", dict[str, defstruct("Phase", [("seconds", Finite, 0.0), ("cpu_seconds", Finite | None, None), *PEAKS])], {}),  # type: ignore[misc]
        ("command", list[str], []), ("overrides", list[str], []), ("warnings", list[str], []),
    ],
)  # fmt: skip
MANIFESTS = Decoder(MANIFEST_KIND)
# The keys that a list of artefacts is sorted by and shows.
LISTED = ("stage", "key", "options", "finished", "order", "wall_seconds")
# Sections of the recorded configuration that every edit and score has.
NAMED = ("name", str)
SECTIONS = defstruct(
    "Sections",
    [
        ("model", defstruct("Model", [NAMED])), ("benchmark", defstruct("Benchmark", [NAMED, ("split", str)])),
        ("method", defstruct("Method", [NAMED])), ("run", defstruct("Run", [("seed", int)])), ("mode", defstruct("Mode", [NAMED])),
    ],
)  # fmt: skip
T = TypeVar("T")
# Types of files that readers find by pattern; such a file is an error if the manifest does not list it.
PAYLOAD = (".json", ".jsonl", ".safetensors")


class Artefact:
    """A complete version: its folder and its manifest.

    To read its files, use ``file`` or ``whole``, which check the content against the manifest; ``path`` does not.
    ``listed``: the keys ``LISTED`` of a manifest that is given as text, which is parsed when it is first needed.
    """

    def __init__(self, path: Path, manifest: dict[str, Any] | bytes, listed: dict[str, Any] | None = None) -> None:
        self.path = path
        self._given = manifest
        self.listed: dict[str, Any] = self.manifest if listed is None else listed

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Artefact) and (self.path, self.manifest) == (other.path, other.manifest)

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """The whole manifest. Raises UserError if a part of it that no list shows is damaged."""
        if isinstance(self._given, dict):
            return self._given
        try:
            found: dict[str, Any] = parse_json(self._given.decode())
        except ValueError as error:
            raise UserError(f"{self.path / MANIFEST} is damaged: {error}", self._again) from None
        return found

    @property
    def stage(self) -> str:
        return str(self.listed["stage"])

    @property
    def key(self) -> str:
        return str(self.listed["key"])

    @property
    def order(self) -> float:
        """Increases in the order of completion, even if the clock was set back (see ``Draft.complete``)."""
        return self.listed.get("order") or self.listed.get("finished") or 0.0

    @property
    def config(self) -> dict[str, Any]:
        """The recorded configuration. Raises UserError if the manifest has none."""
        found = {"mode": {"name": "batch"}, **self.manifest.get("config", {})}
        try:
            decoded(found, SECTIONS, "config")
        except ValueError as error:
            raise UserError(f"{self.path / MANIFEST} does not say how it was made: {error}", "make the run again") from None
        return found

    @property
    def name(self) -> str:
        """``slug@v003``, as commands accept it."""
        return f"{self.path.parent.name}@{self.path.name}"

    @property
    def full_name(self) -> str:
        """``stage/slug@v003``, unique within an outputs folder; stages share slugs."""
        return f"{self.stage}/{self.name}"

    @property
    def summary(self) -> dict[str, Any]:
        """The stage's own summary."""
        return self.manifest.get("summary") or {}

    def told(self, name: str, kind: type[T]) -> T:
        """A value of the summary. Raises UserError if it is missing or of another type."""
        try:
            return decoded(self.summary.get(name), kind, f"summary.{name}")
        except ValueError as error:
            raise UserError(f"{self.path / MANIFEST} is damaged: {error}", self._again) from None

    def has(self, name: str) -> bool:
        """Whether a file of this name exists, without checking its content (see ``file``)."""
        return (self.path / name).is_file()

    def files(self, pattern: str) -> list[Path]:
        """Its files that match a pattern (``*.jsonl``), sorted. Raises UserError as ``whole`` does."""
        return sorted(path for path in self.whole.glob(pattern) if path.is_file())

    def file(self, name: str) -> Path:
        """Path of one of its files. Raises UserError if the content does not match the manifest (see ``recorded_hash``)."""
        records = self.manifest.get("files")
        if records is None:
            return self.path / name
        if name not in records:
            self._refuse(name, "was not there when it was made", f"rm {self.path / name}")
        self._check(name, records[name])
        return self.path / name

    @property
    def whole(self) -> Path:
        """Its folder, after checking all files. Raises UserError as ``check`` does."""
        self.check()
        return self.path

    def check(self) -> None:
        """Raise UserError for a file that does not match the manifest, and for data files that were added later."""
        records = self.manifest.get("files")
        if records is not None:
            for name, record in records.items():
                self._check(name, record)
            for path in sorted(self.path.iterdir()):
                if path.suffix in PAYLOAD and path.name not in (MANIFEST, *records) and not path.name.startswith("."):
                    self._refuse(path.name, "was not there when it was made", f"rm {path}")

    def _check(self, name: str, record: Mapping[str, Any]) -> None:
        # No result depends on the log.
        if name == LOG:
            return
        path, place = self.path / name, PurePosixPath(name)
        if place.is_absolute() or ".." in place.parts:
            self._refuse(name, "leads out of its folder")
        if not path.is_file():
            self._refuse(name, "is missing")
        if (size := path.stat().st_size) != record["size"]:
            self._refuse(name, f"has {size} bytes, not {record['size']}")
        if recorded_hash(path) != record["sha256"]:
            self._refuse(name, "has changed since it was written")

    def _refuse(self, name: str, wrong: str, hint: str = "") -> NoReturn:
        raise UserError(f"{self.full_name} is damaged: {self.path / name} {wrong}", hint or self._again)

    @property
    def _again(self) -> str:
        return f"rm -r {self.path}, and run the command that made it again"


def read_artefact(path: Path) -> Artefact:
    """The artefact in a folder. Raises OSError or ValueError for a missing or invalid manifest."""
    manifest = read_json(path / MANIFEST)
    decoded(manifest, MANIFEST_KIND)
    return Artefact(path, manifest)


def found_artefact(path: Path) -> Artefact | None:
    """The artefact in a folder, or None if there is none."""
    try:
        return read_artefact(path)
    except (OSError, ValueError):
        return None


def listed_artefact(path: Path) -> Artefact | None:
    """As ``found_artefact``, for tables: types are checked now, the manifest is parsed when it is first needed."""
    try:
        content = read_bytes(path / MANIFEST)
        found = MANIFESTS.decode(content)
    except OSError:
        return None
    except (DecodeError, ValueError, RecursionError):  # a number that is not finite is one of them, and Python's reader takes it
        return found_artefact(path)
    return Artefact(path, content, {name: getattr(found, name) for name in LISTED})
