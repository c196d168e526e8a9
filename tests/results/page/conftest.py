"""One browser for all tests of pages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.browser import FOUND, WHY_NOT, Browser, browser


@pytest.fixture(scope="package")
def tab() -> Iterator[Browser]:
    if FOUND is None:
        pytest.skip(WHY_NOT)
    with browser() as found:
        yield found
