"""The tables that `unierase doctor` shows: a summary, or all findings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unierase_cli.cli.amounts import size
from unierase_cli.cli.tables import pairs_table
from unierase_cli.results.table import Table

# Packages named in the summary.
NAMED = ("torch", "transformers")


def summary_table(found: Mapping[str, Any]) -> Table:
    """The findings in about ten lines."""
    packages = found["environment"]["packages"]
    named = {"unierase": packages["unierase"], "python": found["environment"]["python"]}
    named |= {name: packages[name] for name in NAMED if name in packages}
    devices = found["devices"]
    device = next(d for d in devices["available"] if d["name"] == devices["chosen"])
    pairs = [
        ("versions", ", ".join(f"{name} {version}" for name, version in named.items())),
        ("device", f"{device['name']} ({device['what']}), {_bytes(device['free'])} of {_bytes(device['total'])} free"),
        ("hub", f"{found['hub']['address']}: {found['hub']['detail']}"),
        *((file["key"], f"{file['path']}: {file['state']}") for file in found["files"]),
    ]
    if "model" in found:
        model, memory, disk = found["model"], found["memory"], found["disk"]
        layers = ", ".join(map(str, model["layers"]))
        pairs += [
            ("model", f"{model['parameters']:,} weights; an edit changes {100 * model['edited_share']:.2f} % (layers {layers})"),
            ("memory", f"about {size(memory['peak'])} at the peak, in {memory['stage']}; free: {_bytes(memory['free'])}"),
            ("disk", f"about {size(disk['total'])} in all; free: {_bytes(disk['free'])}"),
        ]
    return pairs_table("", pairs)


def full_tables(found: dict[str, Any]) -> list[Table]:
    """All findings: every version, device, file and estimate."""
    environment = found["environment"]
    versions = [("python", environment["python"]), ("platform", environment["platform"])]
    versions += [*environment["packages"].items(), ("commit", environment["git_commit"] or "none")]
    chosen = found["devices"]["chosen"]
    devices = tuple(
        (d["name"] + (" (taken)" if d["name"] == chosen else ""), d["what"], _bytes(d["free"]), _bytes(d["total"]))
        for d in found["devices"]["available"]
    )
    numbers = frozenset({"free", "total", "size"})
    tables = [
        pairs_table("Versions", versions),
        Table("Devices", ("device", "what", "free", "total"), devices, numbers),
        pairs_table("Hub", [(found["hub"]["address"], found["hub"]["detail"])]),
    ]
    if found["files"]:
        tables.append(
            Table("Files", ("key", "path", ""), tuple((f["key"], f["path"], f["state"]) for f in found["files"]))
        )
    if "model" in found:
        model = found["model"]
        tables.append(
            pairs_table(
                "Model",
                [
                    ("shape from", model["source"]),
                    ("weights", f"{model['parameters']:,}"),
                    ("edited layers", model["layers"]),
                    ("weights that an edit changes", f"{100 * model['edited_share']:.2f} %"),
                ],
            )
        )
        for name, total, caption in (
            ("memory", "peak", f"at the peak, in {found['memory']['stage']}, with the model, of phases the largest"),
            ("disk", "total", "in all"),
        ):
            part = found[name]
            body = tuple((_place(n), n["what"], n["how"], size(n["bytes"])) for n in part["needs"])
            told = f"about {size(part[total])} {caption}; free: {_bytes(part['free'])}"
            tables.append(Table(f"Estimate: {name}", ("stage", "what", "how", "size"), body, numbers, told))
    return tables


def _place(need: dict[str, Any]) -> str:
    """A need's stage and phase."""
    return f"{need['stage']}: {need['phase']}" if need["phase"] else str(need["stage"])


def _bytes(count: int | None) -> str:
    return "?" if count is None else size(count)
