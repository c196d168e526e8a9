"""The inputs of stage ``reveal``: targets and instructions, from the two files that it may read besides the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unierase_cli.benchmarks.parts.rows import fact_from_row
from unierase_cli.config.sections.reveal import RevealConfig
from unierase_cli.contracts import Fact, UserError
from unierase_cli.revealing.instructions import Instruction, from_retain, seeds
from unierase_cli.revealing.targets import Target, read_targets
from unierase_cli.store.hashing import hash_file, hash_json
from unierase_cli.store.jsonl import iterate_jsonl


def targets_of(config: RevealConfig) -> list[Target]:
    """The targets; raises UserError for an unusable file."""
    return read_targets(config.targets, config.kind)


def instructions_of(config: RevealConfig, targets: Sequence[Target], seed: int) -> dict[str, list[Instruction]]:
    """Kind of target -> its instructions: the seeds, and questions of the text about others.

    Raises UserError for unusable retain text, and if it mentions a target.
    """
    facts = retain_facts(config)
    kinds = list(dict.fromkeys(target.kind for target in targets))
    return {kind: [*seeds(kind, config.prompts), *from_retain(facts, targets, config.templates, kind, seed)] for kind in kinds}


def retain_facts(config: RevealConfig) -> list[Fact]:
    """The facts of ``reveal.retain_path``, empty without one."""
    path = config.retain_path
    if path is None:
        return []
    found = [fact_from_row(row, f"{path}:{number}", f"retain-{number:04d}") for number, row in iterate_jsonl(path)]
    if not found:
        raise UserError(f"reveal.retain_path={path} has no row", "leave it out, or give facts about others")
    return found


def files_of(config: RevealConfig) -> dict[str, str]:
    """Every file that is read besides the model's -> its hash. Raises UserError for one that cannot be read."""
    targets_of(config)
    retain_facts(config)
    return {path: hash_file(Path(path)) for path in (config.targets, config.retain_path) if path is not None}


def inputs_fingerprints(config: RevealConfig) -> dict[str, str]:
    """Fingerprints of these files and of the shipped instructions."""
    paths = {"targets": config.targets, "retain text": config.retain_path}
    files = files_of(config)
    shipped = [[one.text, one.form, one.prompt] for kind in ("person", "topic") for one in seeds(kind, ["own", "raw"])]
    return {**{name: files[path] for name, path in paths.items() if path is not None}, "instructions": hash_json(shipped)}
