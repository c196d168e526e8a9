"""One page over comparisons of several splits or models, kept as an artefact over them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unierase_cli.contracts import Reporter
from unierase_cli.results.many_runs.comparison import DATA, FORMAT, NAME, PAGE, VERSION, Comparison
from unierase_cli.results.many_runs.rows import COLUMNS
from unierase_cli.results.over_runs import over_runs
from unierase_cli.results.page.runs_page import runs_page
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store
from unierase_cli.store.json_text import read_as, write_json

AGAIN = "unierase report RUN RUN --force makes it again"


def together(
    store: Store, made: Sequence[Artefact], *, reporter: Reporter, command: Sequence[str], force: bool = False
) -> Artefact:
    """The artefact over these comparisons, in their order, with comparison.html and all their tables; reused if there is one."""
    from msgspec import to_builtins

    def write(folder: Path) -> dict[str, Any]:
        tables = [table for part in made for table in read_as(part.file(DATA), Comparison, AGAIN).tables]
        (folder / PAGE).write_text(runs_page(tables), "utf-8")
        columns = [column._asdict() for column in COLUMNS]
        write_json(folder / DATA, {"format": FORMAT, "columns": columns, "tables": to_builtins(tables)})
        return {"summary": {"comparisons": len(made), "files": [PAGE, DATA]}}

    return over_runs(
        store,
        NAME,
        f"{made[0].path.parent.name[:80]}-and-{len(made) - 1}",
        version=VERSION,
        identity={"comparisons": [artefact.key for artefact in made]},
        inputs={f"comparison {number}": artefact for number, artefact in enumerate(made)},
        write=write,
        reporter=reporter,
        command=command,
        force=force,
    )
