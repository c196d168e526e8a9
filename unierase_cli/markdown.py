"""Text of others - facts, answers, names, paths - put into GitHub-flavoured Markdown so that it reads as it is and does nothing."""

from __future__ import annotations

import re

# An entity would be shown as the character that it stands for.
ENTITY = re.compile(r"&(?=#?\w+;)")
# What makes a link or an image of brackets: `](address)`, `][label]`, `]: address`. Brackets alone stay as they are.
LINK = re.compile(r"\](?=\s*[(\[:])")
# Of a cell also what emphasises and what ends it.
MARKS = re.compile(r"([`*~|])")


def inline(text: str) -> str:
    """In one line, for a heading, a paragraph or a list: no HTML, no link, no image. Backticks and stars of ours still work."""
    safe = ENTITY.sub("&amp;", " ".join(text.split("\n")).replace("\r", " ").replace("\\", "\\\\"))
    return LINK.sub(r"\\]", safe.replace("<", "&lt;").replace(">", "&gt;"))


def cell(text: str) -> str:
    """In one line, for a cell of a table: shown character by character."""
    return MARKS.sub(r"\\\1", inline(text))


def code(text: str) -> str:
    """In one line, between backticks: one more of them than the text has in a row."""
    text = " ".join(text.split("\n")).replace("\r", " ")
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    return f"{fence} {text} {fence}" if len(fence) > 1 else f"`{text}`"
