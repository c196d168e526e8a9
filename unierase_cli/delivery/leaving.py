"""What an exported folder may contain: names, numbers and hashes.

It contains no question, no answer, no text about what was forgotten and no path of the machine. ``write_leaving``
writes every record of an exported folder and keeps only what ``ALLOWED`` names, so a new field of a record is withheld
until it is listed here.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import UserError
from unierase_cli.pipeline.passed_over import flat
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store
from unierase_cli.store.json_text import write_json
from unierase_cli.store.patch_files import PART
from unierase_cli.store.unlearned import FORGOTTEN, TAKEN_OVER

# What a rule returns for a value that is withheld.
GONE = object()
Rule = Any
# Names of presets, tensors, data types and tokens: one word without a slash.
NAME = re.compile(r"[\w.<>|@+\-]{1,200}")
HEX = re.compile(r"([\w.]+[:\-])?[0-9a-f]{8,}")
FINGERPRINT = re.compile(rf"{HEX.pattern}|[\w.\-]+(/[\w.\-]+)?@[\w. \-]+")
FACT = "sha256:"
# Key of an exported manifest that lists the withheld settings.
WITHHELD = "withheld"


def numbers(value: Any) -> Any:
    """Keeps numbers, and lists and mappings of them."""
    return value if value is None or isinstance(value, bool | int | float) else _inside(value, numbers)


def names(value: Any) -> Any:
    """Keeps single words and numbers, and lists and mappings of them."""
    return _matching(value, NAME, names)


def hashes(value: Any) -> Any:
    """Keeps hashes, with an optional prefix, numbers, and lists and mappings of them."""
    return _matching(value, HEX, hashes)


def fingerprints(value: Any) -> Any:
    """Keeps hashes, and what replaces a hash for a model on the hub."""
    return _matching(value, FINGERPRINT, fingerprints)


def texts(value: Any) -> Any:
    """Keeps any text; only for settings without which a model would answer differently."""
    return value if value is None or isinstance(value, str) else GONE


def facts(value: Any) -> Any:
    """Replaces ids of facts by hashes, because an id may say what the fact is about."""
    return [fact_hash(str(item)) for item in value] if isinstance(value, list) else GONE


def nothing(value: Any) -> Any:
    """Returns an empty mapping, for a key that readers expect."""
    return {}


def _matching(value: Any, pattern: re.Pattern[str], rule: Callable[[Any], Any]) -> Any:
    if isinstance(value, str):
        return value if pattern.fullmatch(value) else GONE
    return value if value is None or isinstance(value, bool | int | float) else _inside(value, rule)


def _inside(value: Any, rule: Callable[[Any], Any]) -> Any:
    if isinstance(value, list | tuple):
        return [kept for item in value if (kept := rule(item)) is not GONE]
    if isinstance(value, dict):
        found = {key: rule(item) for key, item in value.items() if NAME.fullmatch(str(key))}
        return {key: kept for key, kept in found.items() if kept is not GONE}
    return GONE


# Text settings that determine how a model is loaded, asked and edited. Of all other settings only numbers are exported.
NAMED = """
    model.name model.dtype model.attention model.prompt model.key_position model.revision train.name train.compute
    train.split benchmark.name benchmark.implementation benchmark.split benchmark.order benchmark.train_on
    benchmark.revision benchmark.language mode.name mode.reference mode.retain method.name method.implementation
    method.forget.term method.retain.term token.name token.output_row token.init token.closing token.questions edit.name
    edit.key_position edit.target edit.preserve edit.threshold_kind edit.alpha_kind edit.lambda_kind edit.solve_dtype
    edit.values.lr_kind edit.values.stop_kind unlearn.name unlearn.schedule unlearn.optimizer unlearn.compute unlearn.layout
    unlearn.forget_labels unlearn.pairing unlearn.weighting unlearn.reference unlearn.sharding adapter.name adapter.targets
    protocol.name protocol.rows_of eval.name
""".split()  # noqa: SIM905 (one a line would be fifty lines)
ASKING = ("model.system", "model.instruction", "model.date")
SETTINGS: dict[str, Rule] = {**dict.fromkeys(NAMED, names), **dict.fromkeys(ASKING, texts), "token.stages": names}
# Settings that are not needed to apply, ask or compare an exported run.
NOT_MISSED = ("model.device_map", "model.note", "model.control", "method.note", "run.", "eval.", "audit.")
# Settings that every reader needs; if the value is not a single word, its hash is exported.
COUNTED_ON = ("model.name", "benchmark.name", "benchmark.split", "method.name", "mode.name")

STEP = {"step": numbers, "facts": facts, "independent": numbers, "edits_before": numbers, "without_subject": numbers}
STEP |= {FORGOTTEN: hashes, PART: names}
TOKENS = {"names": names, "ids": numbers, "assignment": nothing, "targets": nothing, "info": {TAKEN_OVER: names}}
BASE = {
    "source": texts,
    "fingerprint": fingerprints,
    "stored": names,
    "rows": numbers,
    "tensors": hashes,
}
LORA = (
    "rank", "rank_of_change", "kept", "resize_to", "prompts", "reserved_tokens",
    "largest_logit_error", "largest_logit", "same_next_token",
)  # fmt: skip
SUMMARY = ("steps", "run_steps", "facts", "without_subject", "changed_share", "first_token_probability")
MANIFEST = {
    **dict.fromkeys(("stage", "slug", "version", "weights", WITHHELD), names),
    **dict.fromkeys(("stage_version", "seed", "finished", "steps", "unlearning_tokens"), numbers),
    **dict.fromkeys(("key", "base_hashes"), hashes),
    "fingerprints": fingerprints,
    "inputs": nothing,
    "summary": dict.fromkeys(SUMMARY, numbers),
    "files": {str: {"size": numbers, "sha256": hashes}},
}
ALLOWED: dict[str, dict[Any, Rule]] = {
    # A step's json, the manifest of exported patches, and the record of an edited folder or an adapter.
    "patch": {
        **dict.fromkeys(("layers",), numbers), **dict.fromkeys(("dense", "named"), names),
        "tokens": TOKENS, "base_hashes": hashes, "info": STEP, "parts": names,
    },
    "manifest": MANIFEST,
    "record": {
        **dict.fromkeys(("format", "steps", "dropped", "unlearning_tokens", *LORA), numbers),
        "run": names, "key": hashes, FORGOTTEN: hashes, "base": BASE, "parts_dropped": names,
    },
}  # fmt: skip


def write_leaving(path: Path, kind: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """Write the exportable part of a record and return it; ``kind``: a key of ``ALLOWED``."""
    found = _kept(record, ALLOWED[kind])
    if kind == "manifest":
        found["config"], found[WITHHELD] = _settings(record)
    elif kind == "record":
        found["base"]["source"] = public_source(record["base"].get("source"), record["base"].get("fingerprint"))
    write_json(path, found)
    return found


def public_name(erasure: Artefact) -> str:
    """The run's original name ``slug@v003``; parent folders of an exported run would reveal where its owner keeps it."""
    slug, version = (erasure.manifest.get(key) for key in ("slug", "version"))
    return f"{slug}@{version}" if slug and version else erasure.name


def public_source(source: Any, fingerprint: Any) -> str | None:
    """A model's id on the hub, or None for a folder; a hub model's fingerprint starts with its id."""
    return source if isinstance(source, str) and source and str(fingerprint).startswith(f"{source}@") else None


def fact_hash(name: str) -> str:
    """The hash that replaces a fact's id in exported files; a hash is returned unchanged."""
    return name if name.startswith(FACT) else FACT + hashlib.sha256(name.encode("utf-8")).hexdigest()[:16]


def withheld(erasure: Artefact) -> list[str]:
    """Keys of the settings that an exported run lacks; empty for a run in its own store."""
    found = erasure.manifest.get(WITHHELD, [])
    return [key for key in found if isinstance(key, str)] if isinstance(found, list) else []


def at_home(erasure: Artefact, store: Store) -> Artefact:
    """The original of an exported run if the store has it, else the run as given."""
    made = store.find(erasure.stage, erasure.key) if withheld(erasure) else None
    return erasure if made is None or withheld(made) else made


def check_complete(erasure: Artefact, what: str, *, without: str = "") -> None:
    """Raise UserError for an exported run that lacks settings needed to make it again; ``without``: a key that may be missing."""
    missed = [key for key in withheld(erasure) if key != without and not _not_missed(key)]
    if missed:
        raise UserError(
            f"{public_name(erasure)} was exported without {', '.join(missed)}, which {what} needs",
            "name the original run, with --outputs of the folder that it was made in",
        )


def _not_missed(key: str) -> bool:
    return key.startswith(NOT_MISSED) or (key.startswith("method.chain.") and key.endswith(".note"))


def _kept(record: Any, allowed: Mapping[Any, Rule]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in record.items():
        rule = allowed.get(key, allowed.get(str))
        if rule is None:
            continue
        if isinstance(rule, dict) and value is not None:
            found[key] = _kept(value, rule)
        elif value is None:
            found[key] = None
        elif (kept := rule(value)) is not GONE:
            found[key] = kept
    return found


def _settings(manifest: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The exportable configuration, and the keys of the withheld settings."""
    model = manifest.get("fingerprints", {}).get("model")
    # Default values reveal nothing about the user.
    usual = flat(asdict(Experiment()))
    kept: dict[str, Any] = {}
    gone = dict.fromkeys(manifest.get(WITHHELD, []))
    for key, value in flat(manifest["config"]).items():
        if key == "model.path":
            found: Any = public_source(value, model)
        elif key.startswith("model.device_map"):
            found = value if value is None else GONE
        else:
            found = _rule(key)(value)
        if found is GONE and value is not None and key in COUNTED_ON:
            found = value = fact_hash(str(value))
        if found == value or value == usual.get(key):
            _put(kept, key, value)
        else:
            gone[key] = None
    return kept, list(gone)


def _rule(key: str) -> Rule:
    """The rule of a setting; a chain's parts have those of a method."""
    if key.startswith("method.chain."):
        section, _, rest = key.removeprefix("method.chain.").partition(".")[2].partition(".")
        key = (
            f"{section}.{rest}"
            if section in ("unlearn", "adapter")
            else f"method.{section}" + (f".{rest}" if rest else "")
        )
    return SETTINGS.get(key, numbers)


def _put(settings: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        settings = settings.setdefault(section, {})
    settings[last] = value
