"""The frame of a page: escaping, style, script, and a policy that forbids the browser to load or run anything else."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from functools import cache
from importlib.resources import files

# Control characters that HTML does not allow, and those that reorder the text around them.
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def escaped(text: str) -> str:
    """The text for an element or a quoted attribute; control characters are written out, as ``\\x1b``."""
    return html.escape(CONTROL.sub(_written_out, text))


def document(title: str, body: str) -> str:
    """A whole page; ``body`` is HTML. The policy allows this style and this script, by its hash, and no network."""
    style, script = _asset("page.css"), _asset("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:; base-uri 'none'"
    )
    head = (
        '<meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escaped(policy)}; form-action \'none\'">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>{escaped(title)}</title><style>{style}</style>"
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{body}<script>{script}</script></body></html>\n'


def section(name: str, title: str, body: str, lead: str = "") -> str:
    """A part of a page that links can lead to; ``body`` is HTML, ``lead`` a text under the heading. Empty without a body."""
    if not body:
        return ""
    told = f'<p class="lead">{escaped(lead)}</p>' if lead else ""
    return f'<section id="{escaped(name)}"><h2>{escaped(title)}</h2>{told}{body}</section>'


def folded(title: str, body: str) -> str:
    """A part that is closed until a reader opens it; ``body`` is HTML."""
    return f"<details><summary>{escaped(title)}</summary>{body}</details>" if body else ""


def listed(texts: list[str] | tuple[str, ...]) -> str:
    """A list of texts; empty without any."""
    return f"<ul>{''.join(f'<li>{escaped(text)}</li>' for text in texts)}</ul>" if texts else ""


def pairs(found: dict[str, str]) -> str:
    """Names and their texts."""
    body = "".join(f"<dt>{escaped(name)}</dt><dd>{escaped(text)}</dd>" for name, text in found.items())
    return f'<dl class="pairs">{body}</dl>' if found else ""


@cache
def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")


def _written_out(found: re.Match[str]) -> str:
    code = ord(found.group())
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
