"""One complete artefact: its folder ``outputs/<stage>/<slug>/v<NNN>/``, its manifest, and whether its files are what that says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn, TypeVar

import msgspec

from unierase_cli.contracts import UserError
from unierase_cli.store.hashing import recorded_hash
from unierase_cli.store.json_text import Finite, decoded, read_json

MANIFEST = "manifest.json"
LOG = "log.txt"
T = TypeVar("T")
# Kinds of files that readers look for by pattern: one that was not there when the artefact was made must not be found.
PAYLOAD = (".json", ".jsonl", ".safetensors")


class Source(msgspec.Struct):
    """What an artefact was made from."""

    path: str
    key: str


class FileRecord(msgspec.Struct):
    """A file's size in bytes, and its hash (see ``hashing.recorded_hash``)."""

    size: int
    sha256: str


class Peaks(msgspec.Struct):
    """Seconds and MiB of a phase."""

    seconds: Finite = 0.0
    peak_memory_mib: Finite | None = None
    peak_gpu_memory_mib: Finite | None = None


class Steps(msgspec.Struct):
    """How many steps a summary tells of."""

    steps: int | None = None


class Environment(msgspec.Struct):
    """What of the code is told."""

    packages: dict[str, str] = {}
    git_commit: str | None = None


class Machine(msgspec.Struct):
    """What of the machine is told."""

    device: str = ""
    threads: int | None = None


class Manifest(Peaks, kw_only=True):
    """Every key of a manifest that is read anywhere; a folder with one of another type is no artefact."""

    stage: str
    key: str
    slug: str = ""
    version: str = ""
    stage_version: int | None = None
    seed: int | None = None
    started: Finite = 0.0
    finished: Finite = 0.0
    order: Finite | None = None
    wall_seconds: Finite = 0.0
    resumed: bool | None = None
    options: dict[str, str] = {}
    config: dict[str, dict[str, Any]] = {}
    inputs: dict[str, Source] = {}
    fingerprints: dict[str, Any] = {}
    files: dict[str, FileRecord] = {}
    summary: Steps | None = None
    environment: Environment = msgspec.field(default_factory=Environment)
    machine: Machine = msgspec.field(default_factory=Machine)
    phases: dict[str, Peaks] = {}
    command: list[str] = []
    overrides: list[str] = []
    warnings: list[str] = []


class Named(msgspec.Struct):
    """A section of a recorded configuration."""

    name: str


class BenchmarkSection(Named):
    split: str


class RunSection(msgspec.Struct):
    seed: int


class Sections(msgspec.Struct):
    """Of a recorded configuration what every edit and score has."""

    model: Named
    benchmark: BenchmarkSection
    method: Named
    run: RunSection
    mode: Named


@dataclass(frozen=True)
class Artefact:
    """A complete version: its folder and its manifest.

    ``path`` says where it is; whoever reads from it asks ``file`` or ``whole``, which hold the content against the manifest.
    """

    path: Path
    manifest: dict[str, Any]

    @property
    def stage(self) -> str:
        return self.manifest["stage"]

    @property
    def key(self) -> str:
        return self.manifest["key"]

    @property
    def order(self) -> float:
        """Greater for what was made later: when it was finished, by a clock that never goes back (see ``Draft.complete``)."""
        return self.manifest.get("order") or self.manifest.get("finished") or 0.0

    @property
    def config(self) -> dict[str, Any]:
        """The recorded configuration. Raises UserError where the manifest has none."""
        found = {"mode": {"name": "batch"}, **self.manifest.get("config", {})}
        try:
            decoded(found, Sections, "config")
        except ValueError as error:
            raise UserError(f"{self.path / MANIFEST} does not say how it was made: {error}", "make the run anew") from None
        return found

    @property
    def name(self) -> str:
        """``slug@v003``, as commands accept it."""
        return f"{self.path.parent.name}@{self.path.name}"

    @property
    def full_name(self) -> str:
        """``stage/slug@v003``: stages share slugs, this name is unique within an outputs folder."""
        return f"{self.stage}/{self.name}"

    def summary(self, kind: type[T]) -> T:
        """What the stage told of itself, as a ``kind``. Raises UserError where the manifest says something else."""
        try:
            return decoded(self.manifest.get("summary") or {}, kind, "summary")
        except ValueError as error:
            raise UserError(f"{self.path / MANIFEST} is damaged: {error}", self._anew) from None

    def has(self, name: str) -> bool:
        """Whether there is a file of this name; what is in it is another question (``file``)."""
        return (self.path / name).is_file()

    def files(self, pattern: str) -> list[Path]:
        """Its files of this kind (``*.jsonl``), sorted. Raises UserError as ``whole``."""
        return sorted(path for path in self.whole.glob(pattern) if path.is_file())

    def file(self, name: str) -> Path:
        """Where one of its files lies. Raises UserError if its content is not what the manifest says (see ``recorded_hash``)."""
        records = self.manifest.get("files")
        if records is None:
            return self.path / name
        if name not in records:
            self._refuse(name, "was not there when it was made", f"rm {self.path / name}")
        self._check(name, records[name])
        return self.path / name

    @property
    def whole(self) -> Path:
        """Its folder, all of whose files are what the manifest says. Raises UserError as ``check``."""
        self.check()
        return self.path

    def check(self) -> None:
        """Raises UserError, as ``file`` does, for a file that is not what the manifest says, and for data that was put in later."""
        records = self.manifest.get("files")
        if records is not None:
            for name, record in records.items():
                self._check(name, record)
            for path in sorted(self.path.iterdir()):
                if path.suffix in PAYLOAD and path.name not in (MANIFEST, *records) and not path.name.startswith("."):
                    self._refuse(path.name, "was not there when it was made", f"rm {path}")

    def _check(self, name: str, record: Mapping[str, Any]) -> None:
        # Nobody computes with the log.
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
            self._refuse(name, "has another content than it was written with")

    def _refuse(self, name: str, wrong: str, hint: str = "") -> NoReturn:
        raise UserError(f"{self.full_name} is damaged: {self.path / name} {wrong}", hint or self._anew)

    @property
    def _anew(self) -> str:
        return f"rm -r {self.path}, and what made it makes it anew"


def read_artefact(path: Path) -> Artefact:
    """The artefact in a folder. Raises OSError or ValueError for a manifest that is none."""
    manifest = read_json(path / MANIFEST)
    decoded(manifest, Manifest)
    return Artefact(path, manifest)


def found_artefact(path: Path) -> Artefact | None:
    """The artefact in a folder, or None where there is none."""
    try:
        return read_artefact(path)
    except (OSError, ValueError):
        return None
