"""The questions on whose answers two runs differ most, with both answers side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from unierase_cli.benchmarks.parts.shown import hides_texts
from unierase_cli.contracts import Observation
from unierase_cli.pipeline.observation_files import PLAN, Plan, read_pass
from unierase_cli.results.runs import ScoredRun
from unierase_cli.results.two_runs.columns import Pair, matched
from unierase_cli.results.two_runs.compared import ChangedQuestion
from unierase_cli.store.artefacts import Store

SPLITS = ("forget", "retain_unseen", "retain_near")
PLAIN = "plain"


def changed_most(store: Store, pairs: Sequence[Pair], top: int) -> list[ChangedQuestion]:
    """Up to ``top`` questions of each split, sorted by the difference in ROUGE-L recall (mean over seeds), largest first.

    Without texts for a benchmark that hides them.
    """
    found = []
    for split in SPLITS if top else ():
        aligned = matched(pairs, f"{split}.rouge")
        if isinstance(aligned, str):
            continue
        rows = [(b - a, fact, a, b) for fact, a, b in zip(*aligned[:3], strict=True) if a != b]
        rows.sort(key=lambda row: (-abs(row[0]), row[1]))
        hidden = any(hides_texts(run.config["benchmark"]) for run in pairs[0])
        said = [answers(store, run, split) for run in pairs[0]] if rows and not hidden else [{}, {}]
        for difference, fact, first, second in rows[:top]:
            old, new = (of_run.get(fact) for of_run in said)
            known = old or new
            found.append(
                ChangedQuestion(
                    split=split,
                    fact_id=fact,
                    question=known.question if known else None,
                    true=known.reference if known else None,
                    first=old.raw_text if old else None,
                    second=new.raw_text if new else None,
                    rouge_first=first,
                    rouge_second=second,
                    difference=difference,
                )
            )
    return found


def other_questions(store: Store, pairs: Sequence[Pair]) -> list[str]:
    """Reasons for rows with the same id but different questions or answers, i.e. another edition of the benchmark."""
    told = []
    for split in SPLITS:
        old, new = (answers(store, run, split) for run in pairs[0])
        differing = [fact for fact in old.keys() & new.keys() if old[fact].row_hash != new[fact].row_hash]
        if differing:
            example = min(differing)
            told.append(f"{len(differing)} rows of {split} have the same id but different content, such as {example}")
    return told


def answers(store: Store, run: ScoredRun, split: str) -> Mapping[str, Observation]:
    """The edited model's answers to a split by fact id; empty if the artefact is gone or the split was not asked."""
    observed = store.input_of(run.score, "edited")
    if observed is None or not observed.has(f"{split}.{PLAIN}.jsonl"):
        return {}
    for entry in Plan.load(observed.file(PLAN).parent).passes:
        if (entry.split, entry.variant) == (split, PLAIN):
            return {observation.fact_id: observation for observation in read_pass(observed.file(entry.file).parent, entry)}
    return {}
