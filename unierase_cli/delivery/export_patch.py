"""Exports a run's patches as a folder that every command accepts as a RUN, wherever it is copied."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from unierase_cli.contracts import Reporter
from unierase_cli.delivery.leaving import write_leaving
from unierase_cli.delivery.patches import Chosen
from unierase_cli.store.artefact import MANIFEST
from unierase_cli.store.hashing import file_records
from unierase_cli.store.new_folder import new_folder
from unierase_cli.store.patch_files import patch_path


def export_patch(chosen: Chosen, destination: Path, reporter: Reporter) -> dict[str, Any]:
    """Copy the steps' files and write a manifest with the hashes of the unedited tensors and the unlearning tokens."""
    erasure = chosen.erasure
    with new_folder(destination) as folder:
        files, tokens = _fill(folder, chosen)
    size = sum(entry["size"] for entry in files.values())
    reporter.note(f"{len(chosen.steps)} steps of {erasure.name} are in {destination}, {size / 1e6:.2f} MB")
    return {
        "run": erasure.name,
        "destination": str(destination),
        "steps": list(chosen.steps),
        "bytes": size,
        "unlearning_tokens": list(tokens),
    }


def _fill(folder: Path, chosen: Chosen) -> tuple[Mapping[str, dict[str, Any]], dict[str, int]]:
    """Write the steps and the manifest; returns the files' records and the unlearning tokens by name."""
    erasure = chosen.erasure
    hashes: dict[str, str] = {}
    tokens: dict[str, int] = {}
    for (step, part), record in zip(chosen.places(), chosen.records(), strict=True):
        tensors, about = (patch_path(folder, step, ending, part) for ending in ("safetensors", "json"))
        shutil.copyfile(patch_path(erasure.whole, step, "safetensors", part), tensors)
        write_leaving(about, "patch", to_builtins(record))
        hashes |= record.base_hashes
        if record.tokens:
            tokens |= dict(zip(record.tokens.names, record.tokens.ids, strict=True))
    files = file_records(folder)
    manifest = {
        **erasure.manifest,
        "version": erasure.manifest.get("version", erasure.path.name),
        "inputs": {},
        # The run's own number of steps tells the whole run, whose audit and scores its key finds, from a part of it.
        "summary": {"run_steps": erasure.summary.get("steps"), **erasure.summary, "steps": len(chosen.steps)},
        "steps": list(chosen.steps),
        "weights": chosen.dtype,
        "base_hashes": hashes,
        "unlearning_tokens": tokens,
        "files": files,
    }
    write_leaving(folder / MANIFEST, "manifest", manifest)
    return files, tokens
