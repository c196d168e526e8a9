"""Tables in the terminal, including those that only commands show: plan, artefacts, choices, keys."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from unierase_cli.cli.amounts import duration, moment, size
from unierase_cli.results.table import Table

if TYPE_CHECKING:
    from rich.console import Console

    from unierase_cli.config.catalog import Choice
    from unierase_cli.config.meanings import Key
    from unierase_cli.estimate.of_plan import PlanNeeds
    from unierase_cli.pipeline.pipeline import PlanRow
    from unierase_cli.stages.shared.part_names import Part
    from unierase_cli.store.artefact import Artefact

VERIFIED = (
    "verified on: weights (its own), architecture (real weights of the same architecture), random (tiny random models of its "
    "family, in tests); unpinned: the hub's model may change, give model.revision="
)
# Width of a table written to a file or a pipe.
WIDTH = 140
# Tables with more columns than this get two spaces between columns instead of three.
MANY = 8
# C0 except tab and line ends, DEL, and C1.
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def console_on(stream: TextIO, interactive: bool) -> Console:
    """A rich console that prints text as it is: no markup, emoji codes or highlighting."""
    from rich.console import Console

    asked = os.environ.get("COLUMNS", "")
    # Ignore anything that is not a plausible width.
    told = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 5 else 0
    width = None if interactive else told or WIDTH
    return Console(
        file=stream, force_terminal=interactive or None, width=width, markup=False, emoji=False, highlight=False
    )


def show(console: Console, table: Table) -> None:
    """Draw a table; long cells are folded, never cut off."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(title=Text(visible(table.title)), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    drawn.collapse_padding = len(table.columns) > MANY
    drawn.show_header = any(column.strip() for column in table.columns)
    for column in table.columns:
        right = column in table.numeric
        drawn.add_column(Text(visible(column)), justify="right" if right else "left", overflow="fold", no_wrap=right)
    for number, row in enumerate(table.rows):
        styles = ("bold" if (number, place) in table.strong else "" for place in range(len(row)))
        drawn.add_row(*(Text(visible(cell), style) for cell, style in zip(row, styles, strict=True)))
    console.print(drawn)
    if table.caption:
        console.print(Text(visible(table.caption), style="dim"))


def visible(text: str) -> str:
    """The text with control characters escaped, so that an answer cannot move the cursor or rename the window."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def plan_table(rows: Sequence[PlanRow], needs: PlanNeeds) -> Table:
    """What a command would reuse and make, with the estimated memory and disk."""
    words = {"done": "reuse", "missing": "make", "interrupted": "resume"}
    body = []
    for row in rows:
        sizes = ("" if count is None else size(count) for count in needs.of(row))
        body.append((words.get(row.state, row.state), row.stage, row.slug, row.key[:10], *sizes, row.path or ""))
    columns = ("", "stage", "name", "key", "memory", "disk", "folder")
    return Table("Plan", columns, tuple(body), frozenset({"memory", "disk"}), _told(needs))


def _told(needs: PlanNeeds) -> str:
    if needs.unknown:
        return f"no estimate of memory and disk: {needs.unknown}"
    if not needs.memory:
        return ""
    worst = max(needs.memory, key=lambda stage: needs.memory[stage])
    total = size(sum(needs.disk.values()))
    found = f"estimated: {size(needs.memory[worst])} of memory at the peak, in {worst}, and {total} of disk (see unierase doctor)"
    return f"{found}; {told_seconds(needs)}" if needs.seconds else found


def told_seconds(needs: PlanNeeds) -> str:
    """How long the attacks of a plan will take, and how far to trust that."""
    total = duration(sum(needs.seconds.values()))
    from_where = "by attacks made here" if needs.measured else "by the model's size alone, within a factor of several"
    return f"{len(needs.seconds)} attack{'s' * (len(needs.seconds) != 1)}, about {total} ({from_where})"


def artefact_table(artefacts: Sequence[Artefact]) -> Table:
    """Finished artefacts, oldest first."""
    body = []
    for artefact, name in zip(artefacts, run_names(artefacts), strict=True):
        listed = artefact.listed
        stage = " ".join([artefact.stage, *listed.get("options", {}).values()])
        made = moment(listed.get("finished", 0)).rpartition(":")[0]
        body.append((stage, name, artefact.key[:10], made, duration(listed.get("wall_seconds", 0.0))))
    return Table("Artefacts", ("stage", "RUN", "key", "made", "took"), tuple(body), frozenset({"took"}))


def run_names(artefacts: Sequence[Artefact]) -> list[str]:
    """What to type for each: ``slug@v001``, or ``stage/slug/v001`` if several stages have that slug and version."""
    times = Counter(artefact.name for artefact in artefacts)
    return [a.name if times[a.name] == 1 else "/".join(a.path.parts[-3:]) for a in artefacts]


def choice_table(group: str, choices: Sequence[Choice]) -> Table:
    """The choices of a configuration group."""
    if any(choice.verified is not None for choice in choices):
        body = tuple((c.name, c.verified or "", c.revision, c.about) for c in choices)
        return Table(f"{group}=", ("name", "verified on", "revision", "about"), body, caption=VERIFIED)
    return Table(f"{group}=", ("name", "about"), tuple((c.name, c.about) for c in choices))


def parts_table(kind: str, parts: Sequence[Part]) -> Table:
    """Loss terms or metrics."""
    return Table(kind, ("name", "about"), tuple((part.name, part.about) for part in parts))


def key_table(keys: Sequence[Key]) -> Table:
    """Keys of the configuration."""
    told = "default: the schema's; a choice of the group may override it (--print-config shows the composed values)"
    return Table("KEY=VALUE", ("key", "default", "meaning"), tuple((k.name, k.default, k.meaning) for k in keys), caption=told)


def pairs_table(title: str, pairs: Iterable[tuple[str, Any]]) -> Table:
    """Names and values, one pair per row; pairs without a value are left out."""
    return Table(title, ("", " "), tuple((name, text(value)) for name, value in pairs if value is not None))


def text(value: Any) -> str:
    """A manifest value as a table cell: short numbers, no braces."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {text(inner)}" for name, inner in value.items() if inner is not None)
    if isinstance(value, list | tuple):
        shown = ", ".join(text(inner) for inner in value[:8])
        return shown + (f", ... ({len(value)} in all)" if len(value) > 8 else "")
    return str(value)
