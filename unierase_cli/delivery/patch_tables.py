"""Tables of the results of ``patch_show.describe`` and ``patch_diff.compare_patches``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from unierase_cli.delivery.patch_diff import MEASURES
from unierase_cli.delivery.patches import listed
from unierase_cli.results.table import Table


def description_table(found: dict[str, Any], size: Callable[[float], str]) -> Table:
    """The table of ``describe``; ``size`` formats a number of bytes."""
    body = tuple(
        (
            str(step["step"]) + (f" {step['part']}" if step["part"] else ""),
            str(step["facts"]),
            _changed(step),
            "-" if step["rank"] is None else "-".join(map(str, sorted(set(step["rank"])))),
            ", ".join(f"{n} ({i})" for n, i in zip(step["tokens"], step["token_ids"], strict=True)) or "none",
            size(step["bytes"]),
        )
        for step in found["steps"]
    )
    caption = f"{size(found['bytes'])} of patches on {found['weights'] or 'unknown'} weights; "
    state = f"{size(found['state_bytes'])} more" if found["state_bytes"] else "not here"
    caption += f"state for further steps: {state}"
    heads = ("step", "facts", "changed", "rank", "unlearning tokens", "size")
    return Table(f"Patches of {found['run']}", heads, body, frozenset({"step", "facts", "rank", "size"}), caption)


def diff_tables(found: dict[str, Any]) -> list[Table]:
    """The tables of ``compare_patches``."""
    heads = ("rank A", "rank B", "|A|", "|B|", "|A - B|", "cosine")
    changes = tuple(
        (r["name"], *(_text(r[key]) for key in ("rank_first", "rank_second", *MEASURES))) for r in found["changes"]
    )
    steps = [listed(side) for side in found["steps"]]
    title = f"A: {found['first']}, steps {steps[0]}\nB: {found['second']}, steps {steps[1]}"
    tables = [Table(title, ("changed", *heads), changes, frozenset(heads), _base_sentence(found))]
    if found["tokens"]:
        rows = tuple((r["token"], r["row"], *(_text(r[key]) for key in MEASURES)) for r in found["tokens"])
        tables.append(Table("Unlearning tokens", ("token", "row", *heads[2:]), rows, frozenset(heads)))
    facts = found["facts"]
    sides = (("A", facts["only_first"]), ("B", facts["only_second"]))
    different = tuple((f"{len(ids)} facts only in {side}", ", ".join(ids[:8])) for side, ids in sides if ids)
    if different:
        tables.append(Table("Facts", ("", ""), different))
    settings = tuple((row["key"], _text(row["first"]), _text(row["second"])) for row in found["settings"])
    if settings:
        tables.append(Table("Settings", ("key", "A", "B"), settings))
    return tables


def _changed(step: dict[str, Any]) -> str:
    parts = [f"layers {listed(step['layers'])}"] if step["layers"] else []
    parts += [f"{step['named']} matrices"] if step["named"] else []
    parts += [f"{step['dense']} tensors replaced"] if step["dense"] else []
    return ", ".join(parts) or "token rows only"


def _base_sentence(found: dict[str, Any]) -> str:
    base = {True: "Both were made on the same model.", False: "They were made on DIFFERENT models.", None: ""}
    return f"{base[found['same_base']]} Frobenius norms of the summed changes."


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
