"""The files of an observe artefact: ``plan.json`` and one append-only ``<split>.<variant>.jsonl`` per pass.

The plan is written before the first answer. For each pass it lists the facts in order and the batches in which they are
asked, so that a killed pass resumes at its next batch and ends with the same file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from unierase_cli.contracts import Observation, UserError
from unierase_cli.store.json_text import ROWS, decoded, read_json, write_json
from unierase_cli.store.jsonl import iterate_jsonl, read_jsonl, write_jsonl

PLAN = "plan.json"
AGAIN = "observe again with --force"


@dataclass(frozen=True)
class Pass:
    """One split asked in one way; ``batches`` holds indices into ``facts`` (fact ids)."""

    split: str
    variant: str
    facts: list[str]
    batches: list[list[int]]

    @property
    def file(self) -> str:
        return f"{self.split}.{self.variant}.jsonl"


@dataclass(frozen=True)
class Plan:
    """All passes over a model state, and the ids of tokens that are not text."""

    state: str
    special_ids: list[int]
    unlearn_ids: list[int]
    passes: list[Pass]
    protocol: dict[str, Any] = field(default_factory=dict)

    def save(self, directory: Path) -> None:
        write_json(directory / PLAN, asdict(self))

    @classmethod
    def load(cls, directory: Path) -> Plan:
        """Raises UserError if the plan is missing or damaged."""
        try:
            plan = decoded(read_json(directory / PLAN, ROWS), cls)
            if any("/" in part or "\\" in part for entry in plan.passes for part in (entry.split, entry.variant)):
                raise ValueError("the name of a pass is a path")
            if any(not 0 <= i < len(entry.facts) for entry in plan.passes for batch in entry.batches for i in batch):
                raise ValueError("a batch has a fact that its pass does not have")
            return plan
        except (OSError, ValueError) as error:
            raise UserError(
                f"{directory / PLAN} is missing or damaged ({error})", "run `unierase eval --force` to observe again"
            ) from error


def batches_done(path: Path, batches: Sequence[Sequence[int]]) -> int:
    """The number of batches that are complete in the file; a partly written batch is removed."""
    if not path.exists():
        return 0
    rows = read_jsonl(path, torn_tail=True)
    ends = list(accumulate((len(batch) for batch in batches), initial=0))
    done = max(count for count, end in enumerate(ends) if end <= len(rows))
    write_jsonl(path, rows[: ends[done]])
    return done


def read_pass(directory: Path, wanted: Pass) -> list[Observation]:
    """The observations of a finished pass in the order of its facts; raises UserError if the file is damaged."""
    path = directory / wanted.file
    found: dict[str, Observation] = {}
    for number, row in iterate_jsonl(path):
        try:
            observation = decoded(row, Observation)
        except ValueError as error:
            raise UserError(f"{path}:{number}: not an observation ({error})", AGAIN) from error
        if wrong := _damage(observation, wanted) or ("its fact occurs twice" if observation.fact_id in found else ""):
            raise UserError(f"{path}:{number}: not an observation of this pass: {wrong}", AGAIN)
        found[observation.fact_id] = observation
    missing = [fact for fact in wanted.facts if fact not in found]
    if missing:
        raise UserError(f"{path} lacks {len(missing)} of {len(wanted.facts)} rows", AGAIN)
    return [found[fact] for fact in wanted.facts]


def _damage(observation: Observation, wanted: Pass) -> str:
    """What is wrong with a well-formed row, or an empty text."""
    if (observation.split, observation.variant) != (wanted.split, wanted.variant):
        return f"it is of {observation.split}.{observation.variant}"
    for kind, scores in observation.answers.items():
        for score in scores:
            columns = (score.log_probs, score.is_argmax, score.mean_log_prob, score.var_log_prob)
            if not score.token_ids or any(len(column) != len(score.token_ids) for column in columns):
                return f"a score of its {kind} answer does not have one number per token"
            if not 0 <= score.spaces <= len(score.token_ids) - score.ends:
                return f"a score of its {kind} answer has a wrong number of closing tokens"
    return ""


def read_state(directory: Path) -> tuple[Plan, Mapping[tuple[str, str], list[Observation]]]:
    """All observations of a model state by (split, variant)."""
    plan = Plan.load(directory)
    return plan, {(entry.split, entry.variant): read_pass(directory, entry) for entry in plan.passes}
