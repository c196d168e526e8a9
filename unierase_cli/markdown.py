"""Escapes foreign text (facts, answers, names, paths) for GitHub-flavoured Markdown, so that it is shown literally."""

from __future__ import annotations

import re

# An entity would be rendered as its character.
ENTITY = re.compile(r"&(?=#?\w+;)")
# What turns brackets into a link or an image: `](address)`, `][label]`, `]: address`. Brackets alone are left as they
# are.
LINK = re.compile(r"\](?=\s*[(\[:])")
# In a table cell, also emphasis and the cell separator.
MARKS = re.compile(r"([`*~|])")


def inline(text: str) -> str:
    """Text on one line for a heading, paragraph or list: no HTML, links or images; our own backticks and asterisks still work."""
    safe = ENTITY.sub("&amp;", " ".join(text.split("\n")).replace("\r", " ").replace("\\", "\\\\"))
    return LINK.sub(r"\\]", safe.replace("<", "&lt;").replace(">", "&gt;"))


def cell(text: str) -> str:
    """Text on one line for a table cell, shown character by character."""
    return MARKS.sub(r"\\\1", inline(text))


def code(text: str) -> str:
    """Text on one line as inline code, fenced by one more backtick than its longest run."""
    text = " ".join(text.split("\n")).replace("\r", " ")
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    return f"{fence} {text} {fence}" if len(fence) > 1 else f"`{text}`"
