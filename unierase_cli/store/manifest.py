"""What a manifest records about the machine and the code that made an artefact."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from unierase_cli import __version__

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "hydra-core",
    "omegaconf",
    "datasets",
    "numpy",
    "scipy",
    "rouge-score",
    "safetensors",
)


@cache
def package_versions() -> Mapping[str, str]:
    """Versions of this package (as ``unierase --version`` prints it) and of the installed packages that results depend on."""
    versions = {"unierase": __version__}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "absent"
    return versions


@cache
def git_commit() -> str | None:
    """Commit of the checkout that this package runs from, plus ``+changes`` for a modified tree; None outside a checkout."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+changes" if changed else "")


def environment() -> dict[str, Any]:
    """Python, platform, packages and commit, for the manifest."""
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "machine": platform.machine(),
        "packages": dict(package_versions()),
        "git_commit": git_commit(),
    }


def _git(folder: Path, *words: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10, check=True
    ).stdout.strip()
