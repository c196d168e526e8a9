"""Content hashes of JSON values, files and bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

CHUNK = 1 << 22
# Manifests record a sampled hash for files larger than this.
RECORDED_LIMIT = 1 << 30


def hash_json(value: Any) -> str:
    """Sha256 of a JSON-able value; key order does not matter."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def hash_file(path: Path, limit: int | None = None) -> str:
    """Hex sha256 of a file's content; beyond ``limit`` bytes, of its size, head, tail and evenly spaced samples."""
    size = path.stat().st_size
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        if limit is None or size <= limit:
            while block := stream.read(CHUNK):
                digest.update(block)
            return digest.hexdigest()
        digest.update(str(size).encode())
        for part in range(64):
            stream.seek((size - (1 << 20)) * part // 63)
            digest.update(stream.read(1 << 20))
    return "sampled-" + digest.hexdigest()


def recorded_hash(path: Path, limit: int | None = RECORDED_LIMIT) -> str:
    """The hash that a manifest records for a file, sampled beyond ``limit`` bytes.

    Cached per process while the file's size, modification and change times and inode stay the same.
    """
    state = path.stat()
    return _recorded_hash(path.absolute(), limit, state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)


@lru_cache(maxsize=1 << 14)
def _recorded_hash(path: Path, limit: int | None, *state: int) -> str:
    return hash_file(path, limit)


def hash_bytes(*parts: bytes) -> str:
    """Hex sha256 of the concatenated parts."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def file_records(folder: Path, limit: int = RECORDED_LIMIT) -> Mapping[str, dict[str, Any]]:
    """Relative name -> size and hash of every file below ``folder`` except hidden ones."""
    records: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not any(part.startswith(".") for part in name.split("/")) and name != "manifest.json":
            found = recorded_hash(path) if limit == RECORDED_LIMIT else hash_file(path, limit)
            records[name] = {"size": path.stat().st_size, "sha256": found}
    return records
