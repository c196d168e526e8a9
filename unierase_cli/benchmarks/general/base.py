"""Suites of general ability: found by file name, read, and sampled.

A suite is a module of this folder (or an entry point of the group ``unierase.suites``) that implements ``Suite``. It
asks once, in one user turn, and states the form of the answer; the model's own template goes around it. With ``compat``
it asks and judges as the UniErase authors' scripts do, quirks included (listed in each suite's docstring); the wording
of the instructions is ours.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

from unierase_cli.config.sections.general import GeneralConfig
from unierase_cli.contracts import Reporter, UserError, duplicates
from unierase_cli.plugins import Plugins
from unierase_cli.store.hashing import hash_file
from unierase_cli.store.jsonl import iterate_jsonl

SUITES = Plugins("unierase_cli.benchmarks.general", "unierase.suites", "eval.general.suites=", "suite")
# The UniErase authors' sampling seed, not run.seed, so that all runs are asked the same questions.
SAMPLE_SEED = 42
OFFER = "give eval.general.data_dir=FOLDER with the suites' files as JSON Lines"
# Rows, each with its location.
Rows = Sequence[tuple[str, Mapping[str, Any]]]


@dataclass(frozen=True)
class Item:
    """One question; ``gold`` is the right answer as text, ``content`` what else the suite needs to ask and judge."""

    id: str
    gold: str
    content: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Judged:
    """Whether an answer is right, and whether it has the requested form."""

    correct: bool
    follows: bool


class Suite(Protocol):
    """The interface of a suite's module.

    ``FILES``: possible names of its local file. ``HUB``: id, configuration and split. ``SAMPLED``: whether ``share``
    applies; it never applies to the files in ``SAMPLES``, which are samples already. A suite whose answers are programs
    also has ``problem(row, compat)``: keyword arguments of ``inference.sandbox.run_tests``, or None for an answer
    without a program; its rows have ``passed`` before they are judged.
    """

    NAME: str
    TITLE: str
    VERSION: int
    FILES: tuple[str, ...]
    HUB: tuple[str, str | None, str]
    SAMPLES: tuple[str, ...]
    SAMPLED: bool

    def item(self, row: Mapping[str, Any], where: str, index: int) -> Item: ...

    def prompt(self, item: Item, compat: bool) -> str: ...

    def judge(self, row: Mapping[str, Any], compat: bool) -> Judged: ...


def load_suite(name: str) -> Suite:
    """The suite of that name. Raises UserError with near matches if there is none."""
    return cast(Suite, SUITES.load(name))


def load_items(name: str, config: GeneralConfig, reporter: Reporter | None = None) -> list[Item]:
    """The questions of a suite to ask, in order; a note says how many of how many.

    Raises UserError for missing files and malformed rows.
    """
    suite = load_suite(name)
    path = _local_file(suite, config.data_dir) if config.data_dir is not None else None
    rows = _local_rows(path) if path is not None else _hub_rows(suite)
    items = [suite.item(row, where, index) for index, (where, row) in enumerate(rows)]
    if not items:
        raise UserError(f"{name} has no rows", "check eval.general.data_dir")
    twice = duplicates(item.id for item in items)
    if twice:
        raise UserError(f"{name}: id {twice[0]} occurs twice", "give every row its own id")
    asked = items
    # A plug-in may have none.
    sample = path is not None and path.name in getattr(suite, "SAMPLES", ())
    if suite.SAMPLED and config.share < 1 and not sample:
        asked = items.copy()
        random.Random(SAMPLE_SEED).shuffle(asked)
        asked = asked[: max(1, int(config.share * len(asked)))]
    asked = asked[: config.rows or None]
    if reporter is not None:
        kept = f" ({path.name} is a sample: eval.general.share does not apply)" if path is not None and sample else ""
        reporter.note(f"{suite.TITLE}: {len(asked)} of {len(items)} questions are asked{kept}")
    return asked


def data_fingerprints(config: GeneralConfig) -> dict[str, str]:
    """Hashes of the suites' local files; hub ids stay as they are, since their content is unknown until read."""
    found = {}
    for name in config.suites:
        suite = load_suite(name)
        if config.data_dir is not None:
            found[name] = hash_file(_local_file(suite, config.data_dir))
        else:
            found[name] = " ".join(filter(None, suite.HUB))
    return found


def text_of(row: Mapping[str, Any], key: str, where: str) -> str:
    """A text that a row must have. Raises UserError with file and line."""
    value = row.get(key)
    if isinstance(value, str) and value.strip():
        return value
    if key not in row:
        raise UserError(f'{where}: "{key}" is missing', f"every row needs the keys of the suite's file, including {key}")
    raise UserError(f'{where}: "{key}" is not a text: {str(value)[:40]!r}', "write a string that is not empty")


def _local_file(suite: Suite, folder: str) -> Path:
    root = Path(folder)
    if not root.is_dir():
        raise UserError(
            f"eval.general.data_dir={folder} is not a folder",
            "check the path; relative paths start at the current folder",
        )
    for name in suite.FILES:
        if (root / name).exists():
            return root / name
    raise UserError(
        f"{root} has no {' or '.join(suite.FILES)}", f"put it there, or leave {suite.NAME} out of eval.general.suites"
    )


def _local_rows(path: Path) -> Rows:
    return [(f"{path}:{number}", row) for number, row in iterate_jsonl(path)]


def _hub_rows(suite: Suite) -> Rows:
    hub, configuration, split = suite.HUB
    try:
        import datasets
    except ImportError as error:
        raise UserError(f"the package `datasets` can't be imported: {error}", f"install it, or {OFFER}") from error
    try:
        loaded = datasets.load_dataset(hub, configuration, split=split)
    except Exception as error:  # the library raises its own, network, hub and OS errors
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(
            f"{hub} ({suite.NAME}) could not be loaded: {type(error).__name__}: {first[:200]}",
            f"check the network and HF_HUB_OFFLINE, or {OFFER}",
        ) from error
    return [(f"{hub} {split} row {index}", dict(row)) for index, row in enumerate(loaded)]
