"""What may leave with an exported folder: names, numbers and hashes; no question, no answer, no text about what was forgotten, and
no path of the machine that it was made on.

Every record of an exported folder is written by ``write_leaving``, which keeps what ``ALLOWED`` names and nothing else. What a
record gains stays at home until it is listed here.
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
from unierase_cli.store.unlearned import FORGOTTEN, TAKEN_OVER

# What a rule answers for a value that stays at home.
GONE = object()
Rule = Any
# Names of presets, tensors, types and tokens: one word without a slash.
NAME = re.compile(r"[\w.<>|@+\-]{1,200}")
HEX = re.compile(r"([\w.]+[:\-])?[0-9a-f]{8,}")
FINGERPRINT = re.compile(rf"{HEX.pattern}|[\w.\-]+(/[\w.\-]+)?@[\w. \-]+")
FACT = "sha256:"
# Key of an exported manifest: settings of the run that it does not have.
WITHHELD = "withheld"


def numbers(value: Any) -> Any:
    """Numbers, and lists and mappings of them."""
    return value if value is None or isinstance(value, bool | int | float) else _inside(value, numbers)


def names(value: Any) -> Any:
    """Single words and numbers, and lists and mappings of them."""
    return _matching(value, NAME, names)


def hashes(value: Any) -> Any:
    """Hashes, perhaps with what they are of in front, and numbers, and lists and mappings of them."""
    return _matching(value, HEX, hashes)


def fingerprints(value: Any) -> Any:
    """Hashes, and what stands for one of a model on the hub."""
    return _matching(value, FINGERPRINT, fingerprints)


def texts(value: Any) -> Any:
    """Any text: of settings that say how a model is asked, without which it would answer otherwise."""
    return value if value is None or isinstance(value, str) else GONE


def facts(value: Any) -> Any:
    """Ids of facts as hashes: what somebody called a fact may say what it is about."""
    return [fact_hash(str(item)) for item in value] if isinstance(value, list) else GONE


def nothing(value: Any) -> Any:
    """An empty mapping, for a key that readers count on."""
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


# Settings that are texts and say how a model is loaded, asked and edited. Of all others only numbers leave.
NAMED = """
    model.name model.dtype model.attention model.prompt model.key_position model.revision train.name train.compute train.split
    benchmark.name benchmark.implementation benchmark.split benchmark.order benchmark.train_on benchmark.revision
    mode.name mode.reference mode.retain method.name method.implementation method.forget.term method.retain.term
    token.name token.output_row token.init token.closing token.questions edit.name edit.key_position edit.target edit.preserve
    edit.threshold_kind edit.alpha_kind edit.lambda_kind edit.solve_dtype edit.values.lr_kind edit.values.stop_kind
    unlearn.name unlearn.schedule unlearn.optimizer unlearn.compute unlearn.layout unlearn.forget_labels unlearn.pairing
    unlearn.weighting unlearn.reference unlearn.sharding adapter.name adapter.targets protocol.name protocol.rows_of eval.name
""".split()  # noqa: SIM905 (one a line would be fifty lines)
ASKING = ("model.system", "model.instruction", "model.date")
SETTINGS: dict[str, Rule] = {**dict.fromkeys(NAMED, names), **dict.fromkeys(ASKING, texts), "token.stages": names}
# Settings that an exported run is put on a model, asked and compared without.
NOT_MISSED = ("model.device_map", "model.note", "model.control", "method.note", "run.", "eval.", "audit.")
# Those that every reader counts on; one that is no single word leaves as a hash.
COUNTED_ON = ("model.name", "benchmark.name", "benchmark.split", "method.name", "mode.name")

STEP = {"step": numbers, "facts": facts, "independent": numbers, "edits_before": numbers, "without_subject": numbers}
STEP |= {FORGOTTEN: hashes}
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
SUMMARY = ("steps", "facts", "without_subject", "changed_share", "first_token_probability")
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
    # A step's json, the manifest of exported patches, and the record in an edited folder or beside an adapter.
    "patch": {
        **dict.fromkeys(("layers",), numbers), **dict.fromkeys(("dense", "named"), names),
        "tokens": TOKENS, "base_hashes": hashes, "info": STEP,
    },
    "manifest": MANIFEST,
    "record": {
        **dict.fromkeys(("format", "steps", "dropped", "unlearning_tokens", *LORA), numbers),
        "run": names, "key": hashes, FORGOTTEN: hashes, "base": BASE,
    },
}  # fmt: skip


def write_leaving(path: Path, kind: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """Write what of a record may leave, and return it. ``kind``: one of ``ALLOWED``."""
    found = _kept(record, ALLOWED[kind])
    if kind == "manifest":
        found["config"], found[WITHHELD] = _settings(record)
    elif kind == "record":
        found["base"]["source"] = public_source(record["base"].get("source"), record["base"].get("fingerprint"))
    write_json(path, found)
    return found


def public_name(erasure: Artefact) -> str:
    """``slug@v003`` as the run was called where it was made: the folders above an exported one say where somebody keeps things."""
    slug, version = (erasure.manifest.get(key) for key in ("slug", "version"))
    return f"{slug}@{version}" if slug and version else erasure.name


def public_source(source: Any, fingerprint: Any) -> str | None:
    """A model's id on the hub; None for one that is a folder. A hub model's fingerprint begins with its id."""
    return source if isinstance(source, str) and source and str(fingerprint).startswith(f"{source}@") else None


def fact_hash(name: str) -> str:
    """Stands for a fact's id in what has left; a hash stays what it is."""
    return name if name.startswith(FACT) else FACT + hashlib.sha256(name.encode("utf-8")).hexdigest()[:16]


def withheld(erasure: Artefact) -> list[str]:
    """Keys of the settings that an exported run is without; none for a run where it was made."""
    found = erasure.manifest.get(WITHHELD, [])
    return [key for key in found if isinstance(key, str)] if isinstance(found, list) else []


def at_home(erasure: Artefact, store: Store) -> Artefact:
    """The run that an exported one is of, where the store has it; else the run as it is given."""
    made = store.find(erasure.stage, erasure.key) if withheld(erasure) else None
    return erasure if made is None or withheld(made) else made


def check_complete(erasure: Artefact, what: str, *, without: str = "") -> None:
    """Raises UserError for an exported run that lacks settings which making it again takes; ``without``: one that is not missed."""
    missed = [key for key in withheld(erasure) if key != without and not key.startswith(NOT_MISSED)]
    if missed:
        raise UserError(
            f"{public_name(erasure)} was exported without {', '.join(missed)}, which {what} takes",
            "name the run itself, with --outputs of the folder that it was made in",
        )


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
    """The configuration without what may not leave, and the keys of that."""
    model = manifest.get("fingerprints", {}).get("model")
    # What nobody had to type says nothing about anybody.
    usual = flat(asdict(Experiment()))
    kept: dict[str, Any] = {}
    gone = dict.fromkeys(manifest.get(WITHHELD, []))
    for key, value in flat(manifest["config"]).items():
        if key == "model.path":
            found: Any = public_source(value, model)
        elif key.startswith("model.device_map"):
            found = value if value is None else GONE
        else:
            found = SETTINGS.get(key, numbers)(value)
        if found is GONE and value is not None and key in COUNTED_ON:
            found = value = fact_hash(str(value))
        if found == value or value == usual.get(key):
            _put(kept, key, value)
        else:
            gone[key] = None
    return kept, list(gone)


def _put(settings: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        settings = settings.setdefault(section, {})
    settings[last] = value
