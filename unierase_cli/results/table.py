"""A table, rendered in the terminal (cli/tables.py), as Markdown and as HTML."""

from __future__ import annotations

import html
from dataclasses import dataclass, field

from unierase_cli.markdown import cell as markdown_cell
from unierase_cli.markdown import inline


@dataclass(frozen=True)
class Table:
    """A table with text cells; ``numeric`` names the right-aligned columns.

    ``strong``: (row, column) of bold cells. Columns and cells may have line breaks; Markdown joins the lines.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[str] = field(default_factory=frozenset)
    caption: str = ""
    strong: frozenset[tuple[int, int]] = frozenset()

    def width(self) -> int:
        """Width of the table in the terminal if no cell is folded, in characters."""
        columns = zip(self.columns, *self.rows, strict=True)
        return sum(max(len(line) for cell in cells for line in cell.split("\n")) + 2 for cells in columns)

    def markdown(self) -> str:
        """GitHub-flavoured Markdown with the title as a third-level heading."""
        rule = ["---:" if column in self.numeric else "---" for column in self.columns]
        lines = [f"### {inline(self.title)}", ""]
        if self.caption:
            lines += [inline(self.caption), ""]
        lines += [_line([markdown_cell(column) for column in self.columns]), _line(rule)]
        for number, row in enumerate(self.rows):
            cells = [markdown_cell(cell) for cell in row]
            lines.append(_line([f"**{c}**" if (number, place) in self.strong else c for place, c in enumerate(cells)]))
        return "\n".join(lines) + "\n"

    def html(self) -> str:
        """An HTML section; every cell is escaped."""
        align = [' class="number"' if column in self.numeric else "" for column in self.columns]
        head = "".join(f"<th{a}>{html.escape(c)}</th>" for c, a in zip(self.columns, align, strict=True))
        body = "".join(
            "<tr>" + "".join(f"<td{a}>{self._bold(r, c, html.escape(row[c]))}</td>" for c, a in enumerate(align)) + "</tr>"
            for r, row in enumerate(self.rows)
        )
        caption = f"<p>{html.escape(self.caption)}</p>" if self.caption else ""
        return f"<h3>{html.escape(self.title)}</h3>{caption}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def _bold(self, row: int, column: int, text: str) -> str:
        return f"<b>{text}</b>" if (row, column) in self.strong else text


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"
