"""Short labels such as ``npo_gd lr=1e-4`` that distinguish the configurations of a method."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from unierase_cli.config.counted import uncounted_keys
from unierase_cli.config.schema import Experiment, without_moved

# Names of presets and notes add nothing to the keys. Where and when a run was made and what it was asked afterwards
# does not change the model. A different data folder shows in its rows, which are compared separately.
LEFT_OUT = ("run.", "eval.", "benchmark.data_dir", *uncounted_keys(Experiment()))
LEFT_OUT_NAMES = ("name", "note")
ONLY_EDITING = ("edit.",)
ONLY_TRAINING = ("unlearn.", "adapter.", "method.forget.", "method.retain.", "method.settings.")
# Differing keys shown in a label; if there are more, only as many as distinguish the rows.
SHOWN = 4
# A longer value is replaced by a letter, which the remarks explain.
LONG = 16


def configuration(config: Mapping[str, Any]) -> dict[str, str]:
    """Dotted key -> JSON text of the settings that affect the result of this run's method, except the seed.

    Null keys are left out, so that an unused key equals a key that an older version did not have.
    """
    config = without_moved(config)
    method = config["method"]
    unread = list(LEFT_OUT) + list(ONLY_TRAINING if method.get("editing", True) else ONLY_EDITING)
    if config["model"].get("path"):
        unread.append("train.")
    if config.get("adapter", {}).get("name") == "none":
        unread.append("adapter.")
    found = {}
    for key, value in _flat(config):
        of_token = key.startswith("token.") and key != "token.targets" and not method.get("token", True)
        if value is not None and not (of_token or key.startswith(tuple(unread)) or key.rsplit(".", 1)[-1] in LEFT_OUT_NAMES):
            found[key] = json.dumps(value, sort_keys=True)
    return found


def labelled(method: str, configurations: Sequence[Mapping[str, str]]) -> tuple[list[str], list[dict[str, str]], list[str]]:
    """Labels of a method's configurations, the values in which they differ, and remarks that explain the labels."""
    keys = sorted({key for one in configurations for key in one})
    differing = [key for key in keys if len({one.get(key) for one in configurations}) > 1]
    shown = differing if len(differing) <= SHOWN else _fewest(differing, configurations)
    names, remarks = _short_names(shown), []
    texts: dict[str, dict[str | None, str]] = {}
    for key in shown:
        values = list(dict.fromkeys(one.get(key) for one in configurations))
        texts[key] = {value: _text(value) for value in values}
        if any(len(text) > LONG for text in texts[key].values()):
            texts[key] = {value: _letter(index) for index, value in enumerate(values)}
            told = "; ".join(f"{_letter(index)} is {_text(value)}" for index, value in enumerate(values))
            remarks.append(f"{method}, {key}: {told}")
    if any(one.get(key) is None for one in configurations for key in shown):
        remarks.append(f"{method}, unset: null, or the version that made the run did not have that key")
    if rest := [key for key in differing if key not in shown]:
        remarks.append(f"the rows of {method} also differ in {', '.join(rest)}, which their labels leave out")
    labels = [" ".join([method, *(f"{names[k]}={texts[k][one.get(k)]}" for k in shown)]) for one in configurations]
    return labels, [{key: _text(one.get(key)) for key in differing} for one in configurations], remarks


def _fewest(keys: Sequence[str], configurations: Sequence[Mapping[str, str]]) -> list[str]:
    """A small set of keys that distinguishes all configurations, chosen greedily."""
    chosen: list[str] = []
    parts = 1
    while parts < len(configurations):
        counts = {key: len({tuple(one.get(k) for k in [*chosen, key]) for one in configurations}) for key in keys}
        best = max(keys, key=lambda key: (counts[key], -len(key)))
        chosen.append(best)
        parts = counts[best]
    return [key for key in keys if key in chosen]


def _short_names(keys: Sequence[str]) -> dict[str, str]:
    """The last part of each key, or the last two parts if the last one is ambiguous."""
    last = [key.rsplit(".", 1)[-1] for key in keys]
    return {
        key: (end if last.count(end) == 1 else ".".join(key.split(".")[-2:])).rstrip("_")
        for key, end in zip(keys, last, strict=True)
    }


def _text(value: str | None) -> str:
    """A JSON text as shown in a label; None means that the run's version did not have the key."""
    if value is None:
        return "unset"
    read = json.loads(value)
    if isinstance(read, float):
        mantissa, _, exponent = f"{read:.6e}".partition("e")
        small = read != 0 and abs(read) < 1e-3
        return f"{float(mantissa):g}e{int(exponent)}" if small else f"{read:g}"
    return read if isinstance(read, str) else value


def _letter(index: int) -> str:
    return chr(ord("A") + index) if index < 26 else f"{_letter(index // 26 - 1)}{_letter(index % 26)}"


def _flat(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in section.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
