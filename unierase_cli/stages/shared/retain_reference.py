"""Loads the retain reference (``eval.retain_reference``): results of a model that never saw the forget set.

It is an observe artefact's folder, or open-unlearning's ``TOFU_EVAL.json`` of a retain model (the file, or a folder
with it).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unierase_cli.contracts import Observation, UserError
from unierase_cli.store.artefact import found_artefact

if TYPE_CHECKING:
    from unierase_cli.interchange.open_unlearning_log import RetainLog
    from unierase_cli.metrics.base import Evidence, Reference

OBSERVED = "forget.plain.jsonl"
LOGGED = "TOFU_EVAL.json"


def check_reference(named: str) -> Path:
    """The file that has the reference's results; raises UserError if it is missing, or if it is an invalid log."""
    path = _file(named)
    if path.name != OBSERVED:
        _log(path)
    return _checked(path)


def load_reference(named: str | None, forget: Sequence[Observation]) -> Reference | None:
    """The reference for a model's ``forget`` observations.

    Raises UserError if it cannot be read, or if a log's prompts show that other questions were asked. If observations
    are of other rows, the metrics that compare them report it.
    """
    if named is None:
        return None
    path = _file(named)
    if path.name == OBSERVED:
        from unierase_cli.metrics.base import Reference
        from unierase_cli.pipeline.observation_files import read_state

        return Reference(read_state(_checked(path).parent)[1])
    log = _log(path)
    if other := log.unknown([o.question for o in forget]):
        raise UserError(
            f"eval.retain_reference={named} was asked other forget questions: {len(other)} of {len(forget)} differ, "
            f"e.g. {other[0]!r}",
            "name the log of a retain model of this benchmark.split",
        )
    return log.reference


def other_tokens(evidence: Evidence) -> str | None:
    """A warning if the reference has another tokenizer, because losses per token are then not comparable."""
    known = evidence.reference.observations.get(("forget", "plain"), ()) if evidence.reference else ()
    tokens = {o.row_hash: o.answers["true"][0].token_ids for o in known if o.answers.get("true")}
    shared = [o for o in evidence.rows("forget") if o.row_hash in tokens and o.answers.get("true")]
    other = sum(o.answers["true"][0].token_ids != tokens[o.row_hash] for o in shared)
    if not other:
        return None
    return (
        f"the retain reference splits {other} of {len(shared)} answers into other tokens: it has another tokenizer, and forget "
        "quality is hardly comparable"
    )


def _log(path: Path) -> RetainLog:
    from unierase_cli.interchange.open_unlearning_log import read_retain_log

    return read_retain_log(path)


def _checked(path: Path) -> Path:
    """The file; if it belongs to an artefact, the artefact is verified first. Raises UserError for a damaged one."""
    found = found_artefact(path.parent)
    return path if found is None else found.whole / path.name


def _file(named: str) -> Path:
    place = Path(named)
    for path in (place, place / OBSERVED, place / LOGGED):
        if path.is_file():
            return path
    what = f"has neither {OBSERVED} nor {LOGGED}" if place.is_dir() else "does not exist"
    raise UserError(
        f"eval.retain_reference={named} {what}",
        f"name the folder of an observe artefact, see `unierase ls`, or open-unlearning's {LOGGED}",
    )
