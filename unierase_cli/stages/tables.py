"""A table once, shown three ways: in the terminal (cli/render.py), as Markdown and as HTML."""

from __future__ import annotations

import html
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Table:
    """Cells are text already; ``numeric`` names the columns that are aligned to the right."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[str] = field(default_factory=frozenset)
    caption: str = ""

    def markdown(self) -> str:
        """GitHub-flavoured Markdown, with the title as a heading of the third level."""
        rule = ["---:" if column in self.numeric else "---" for column in self.columns]
        lines = [f"### {self.title}", ""]
        if self.caption:
            lines += [self.caption, ""]
        lines += [_line(self.columns), _line(rule)]
        lines += [_line([_cell(cell) for cell in row]) for row in self.rows]
        return "\n".join(lines) + "\n"

    def html(self) -> str:
        """An HTML section; every cell is escaped."""
        align = [' class="number"' if column in self.numeric else "" for column in self.columns]
        head = "".join(f"<th{a}>{html.escape(c)}</th>" for c, a in zip(self.columns, align, strict=True))
        body = "".join(
            "<tr>" + "".join(f"<td{a}>{html.escape(c)}</td>" for c, a in zip(row, align, strict=True)) + "</tr>"
            for row in self.rows
        )
        caption = f"<p>{html.escape(self.caption)}</p>" if self.caption else ""
        return f"<h3>{html.escape(self.title)}</h3>{caption}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
