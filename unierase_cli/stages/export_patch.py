"""The patches of a run as a folder of their own, which every command that takes a RUN accepts wherever it is copied."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from unierase_cli.contracts import Reporter
from unierase_cli.stages.edited_folder import finish, new_folder
from unierase_cli.stages.patches import Chosen
from unierase_cli.store.artefact import MANIFEST
from unierase_cli.store.hashing import file_records
from unierase_cli.store.json_text import write_json
from unierase_cli.store.patch_files import ENDINGS, patch_path

# Of the run's manifest: what says how the edit was made; not the paths of what it was made from, nor the machine.
KEPT = ("stage", "slug", "key", "stage_version", "config", "overrides", "fingerprints", "seed", "finished", "summary")


def export_patch(chosen: Chosen, destination: Path, reporter: Reporter) -> dict[str, Any]:
    """Copy the steps' files and write a manifest with the base tensors' hashes and the unlearning tokens."""
    partial = new_folder(destination)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    erasure = chosen.erasure
    hashes: dict[str, str] = {}
    tokens: dict[str, int] = {}
    for step, record in zip(chosen.steps, chosen.records(), strict=True):
        for ending in ENDINGS:
            shutil.copyfile(patch_path(erasure.whole, step, ending), patch_path(partial, step, ending))
        hashes |= record["base_hashes"]
        if record.get("tokens"):
            tokens |= dict(zip(record["tokens"]["names"], record["tokens"]["ids"], strict=True))
    manifest = {name: erasure.manifest[name] for name in KEPT if name in erasure.manifest}
    summary = {**erasure.summary({}), "steps": len(chosen.steps)}
    files = file_records(partial)
    manifest |= {
        "version": erasure.path.name,
        "inputs": {},
        "summary": summary,
        "steps": list(chosen.steps),
        "weights": chosen.dtype,
        "base_hashes": hashes,
        "unlearning_tokens": tokens,
        "files": files,
    }
    write_json(partial / MANIFEST, manifest)
    finish(partial, destination)
    size = sum(entry["size"] for entry in files.values())
    reporter.note(f"{len(chosen.steps)} steps of {erasure.name} are in {destination}, {size / 1e6:.2f} MB")
    return {
        "run": erasure.name,
        "destination": str(destination),
        "steps": list(chosen.steps),
        "bytes": size,
        "unlearning_tokens": list(tokens),
    }
