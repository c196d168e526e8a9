"""A table, rendered in the terminal (cli/tables.py), as Markdown, and on a page (results/page)."""

from __future__ import annotations

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


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"
