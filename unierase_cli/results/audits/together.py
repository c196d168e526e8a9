"""Several runs' audits in one place: one table, one heat map (attacks x runs), kept as an artefact over them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unierase_cli.audit.findings import Audit
from unierase_cli.contracts import Reporter, UserError
from unierase_cli.pipeline.stage import AUDITS
from unierase_cli.results.audits.picture import heat_map
from unierase_cli.results.audits.tables import overview, share_table
from unierase_cli.results.over_runs import over_runs
from unierase_cli.results.page.audit_page import audits_page
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store
from unierase_cli.store.json_text import read_as, write_json

VERSION = 2
AUDIT, AGAIN = "audit.json", "unierase audit with --force makes it again"
DATA, TEXT, PICTURE, PAGE = "audits.json", "audits.md", "audits.png", "audits.html"


def read_audit(artefact: Artefact) -> Audit:
    """``audit.json`` of an audit. Raises UserError when it is damaged."""
    path = artefact.file(AUDIT)
    return _decoded(read_as(path, dict[str, Any], AGAIN), path)


def read_audits(artefact: Artefact) -> list[Audit]:
    """``audits.json`` of several audits. Raises UserError when it is damaged."""
    path = artefact.file(DATA)
    return [_decoded(data, path) for data in read_as(path, list[dict[str, Any]], AGAIN)]


def _decoded(data: dict[str, Any], path: Path) -> Audit:
    try:
        return Audit.from_json(data)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} is damaged: {error}", AGAIN) from error


def together(
    store: Store, made: Sequence[Artefact], *, reporter: Reporter, command: Sequence[str], force: bool = False
) -> Artefact:
    """The artefact over these audits, in their order; reused if there is one."""
    def write(folder: Path) -> dict[str, Any]:
        audits = [read_audit(artefact) for artefact in made]
        heat_map(audits, folder / PICTURE)
        write_json(folder / DATA, [audit.to_json() for audit in audits])
        parts = [overview(audits).markdown(), f"![share that each attack brings back]({PICTURE})\n", share_table(audits).markdown()]
        (folder / TEXT).write_text("\n".join(["# Audits\n", *parts]), "utf-8")
        (folder / PAGE).write_text(audits_page(audits), "utf-8")
        return {"summary": {"audits": len(made), "files": [DATA, TEXT, PICTURE, PAGE]}}

    return over_runs(
        store,
        AUDITS,
        f"{made[0].path.parent.name[:80]}-and-{len(made) - 1}",
        version=VERSION,
        identity={"audits": [artefact.key for artefact in made]},
        inputs={f"audit {n}": artefact for n, artefact in enumerate(made)},
        write=write,
        reporter=reporter,
        command=command,
        force=force,
    )
