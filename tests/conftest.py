"""Settings of every test: no hub, one thread, no colours, nothing remembered from earlier runs."""

from __future__ import annotations

import gc
import os
import signal
import threading
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["NO_COLOR"] = "1"
os.environ["TERM"] = "dumb"
os.environ["COLUMNS"] = "160"
os.environ["UNIERASE_CACHE"] = "off"

# A shell without job control starts what runs in the background with SIGINT ignored, and jobs inherit that.
if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
from _pytest.runner import runtestprotocol

from tests.helpers.times import slow_tests


def shared_dir() -> Path | None:
    """Folder with golden numbers and real data: $UNIERASE_SHARED, else ``shared`` beside the checkout."""
    named = os.environ.get("UNIERASE_SHARED")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared"
    return folder if (folder / "golden").is_dir() else None


@pytest.fixture(scope="session")
def shared() -> Path:
    folder = shared_dir()
    if folder is None:
        pytest.skip(
            "needs the reference material: set UNIERASE_SHARED to its folder, or put it beside the checkout as ../shared"
        )
    return folder


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what ``slow.csv`` lists. With several workers, files that have slow tests come first: whatever is begun last should be
    short."""
    listed = slow_tests()
    for item in items:
        if item.nodeid in listed:
            item.add_marker("slow")
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """Take the modules, which stay until the end, out of what is searched for garbage.

    Every stage collects garbage before it begins; with all tests and their libraries imported that took half a second each.
    """
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    """As pytest's own, in a frame that leaves room on its piece of the interpreter's stack.

    CPython since 3.11 keeps its frames in pieces of 16 KiB, each mapped when a call needs it and unmapped when the call returns. A
    loop whose calls begin at the end of a piece maps memory in every round: of a test of 16 s that was 6.5 s. A larger frame gets
    a larger piece, and what it calls uses the rest.
    """
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    runtestprotocol(item, nextitem=nextitem)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


# Slots of 8 bytes: a piece is the next power of two, so half of 1 MiB is left.
pytest_runtest_protocol.__code__ = pytest_runtest_protocol.__code__.replace(co_stacksize=1 << 16)


@pytest.fixture
def refusals(tmp_path: Path) -> str:
    """A file of the refusals that ``tests.helpers.token_learning`` teaches."""
    from tests.helpers.token_learning import REFUSALS

    path = tmp_path / "refusals.txt"
    path.write_text("\n".join(REFUSALS), "utf-8")
    return str(path)
