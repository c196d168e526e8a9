"""What every page has to be: self-contained and harmless by its text, and readable in a browser."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from tests.helpers.browser import Browser

# Text of a model or of data that would do something if it were not escaped.
HOSTILE = "<script>alert(1)</script></script><img src=x onerror=alert(1)>\"'><b>&amp;]]>--><!-- \x1b[0m \u202e"
LOADING = ("src", "href", "srcset", "data", "action", "formaction", "poster", "xlink:href")
# Smallest ratio of luminances of text and what is behind it (WCAG 2, AA).
CONTRAST = 4.5
# The ratios of all texts of a page, computed from the colours as the browser paints them.
CONTRASTS = Path(__file__).with_name("contrast.js").read_text("utf-8")
HIDDEN_SCROLL = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
SMALLEST_TEXT = """Math.min(...[...document.querySelectorAll('body *')].filter(e => e.checkVisibility() &&
  e.getClientRects().length && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
  .map(e => parseFloat(getComputedStyle(e).fontSize) *
  (e.ownerSVGElement ? e.ownerSVGElement.getScreenCTM().a : 1)))"""


class _Read(HTMLParser):
    """Elements, scripts and what is loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.loaded: list[str] = []
        self.handlers: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        for name, value in attributes:
            self.ids += [value or ""] if name == "id" else []
            if name in LOADING and not (value or "").startswith(("#", "data:")):
                self.loaded.append(f"{tag} {name}={value}")
            if name.startswith("on"):
                self.handlers.append(f"{tag} {name}")


def check_text(page: str) -> None:
    """It loads nothing, its only script is its own, and no element has a handler."""
    read = _Read()
    read.feed(page)
    assert read.loaded == []
    assert read.handlers == []
    assert len(read.ids) == len(set(read.ids))
    assert read.elements.count("script") == 1
    assert not {"img", "iframe", "object", "embed", "base", "audio", "video"} & set(read.elements)
    assert "url(" not in page
    assert not re.search(r"@import", page)
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\u202e]", page)


def check_look(tab: Browser, page: Path) -> None:
    """In both themes and at two widths: no fault, no page wider than the window, text that can be read."""
    for dark in (False, True):
        for width in (390, 1280):
            tab.open(page, width=width, dark=dark)
            tab.run("document.querySelectorAll('details').forEach(d => d.open = true)")
            assert tab.faults == []
            assert tab.run(HIDDEN_SCROLL) == 0, f"the page is wider than {width} px"
            assert tab.run(SMALLEST_TEXT) >= 11
            low = [found for found in tab.run(CONTRASTS) if found[0] < CONTRAST]
            assert low == [], f"contrast below {CONTRAST}: {low} in the {'dark' if dark else 'light'} theme"
