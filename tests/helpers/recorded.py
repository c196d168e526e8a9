"""A finished run as the store keeps it: observed answers of two model states and their score, made without a model."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace

from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.contracts import AnswerScore, Observation, SilentReporter
from unierase_cli.pipeline.observation_files import Pass, Plan
from unierase_cli.pipeline.stage import StageContext
from unierase_cli.pipeline.study import study_of
from unierase_cli.stages import score
from unierase_cli.store.artefact import MANIFEST, Artefact
from unierase_cli.store.artefacts import Store
from unierase_cli.store.hashing import file_records, hash_json
from unierase_cli.store.json_text import write_json
from unierase_cli.store.jsonl import write_jsonl

SPLITS = ("forget", "retain_unseen", "real_authors", "world_facts", "holdout")


def answer(loss: float, tokens: int = 6) -> AnswerScore:
    """An answer whose tokens' losses rise to an average of ``loss``; the first half are the most probable ones."""
    steps = [-loss * (0.5 + place / (tokens - 1)) for place in range(tokens)]
    return AnswerScore(
        list(range(10, 10 + tokens)), steps, [place < tokens // 2 for place in range(tokens)], steps, steps
    )


def observation(split: str, number: int, *, learned: float, text: str | None = None) -> Observation:
    """Row ``number`` of a split; ``learned`` from 0 to 1 makes the true answers likely and the text right."""
    spread = 0.3 * math.sin(7 * number + len(split))
    truth = f"Person {number} of {split} lives in the town {number}"
    options = split in ("real_authors", "world_facts")
    answers = {"true": [answer(2.5 - 2.2 * learned + abs(spread))]}
    if not options:
        answers["paraphrased"] = [answer(2.8 - learned + spread)]
    answers["wrong"] = [answer(3.0 + spread / (2 + wrong)) for wrong in range(3 if options else 5)]
    said = truth if text is None else text
    return Observation(
        f"{split}-{number}", f"row-{split}-{number}", "prompt", split, "plain", f"Where does person {number} of {split} live?",
        truth, [5], said, said, "end", answers=answers,
    )  # fmt: skip


def state(
    learned: float, rows: int = 8, splits: Sequence[str] = SPLITS, text: str | None = None
) -> dict[str, list[Observation]]:
    """Plain observations of a model state, by split. Only the forget split goes by ``learned``; the holdout is unknown to all."""
    known = {"forget": learned, "holdout": 0.1}
    return {s: [observation(s, n, learned=known.get(s, 0.9), text=text) for n in range(rows)] for s in splits}


def observed(store: Store, slug: str, rows: dict[str, list[Observation]]) -> Artefact:
    """An observe artefact."""
    key = hash_json(["observe", slug, len(store.list())])
    draft = store.draft("observe", slug, key, fresh=True)
    passes = [
        Pass(split, "plain", [o.fact_id for o in found], [list(range(len(found)))]) for split, found in rows.items()
    ]
    Plan(slug.rpartition("_")[2], [9], [], passes).save(draft.path)
    for entry in passes:
        write_jsonl(draft.path / entry.file, [o.to_json() for o in rows[entry.split]])
    return draft.complete({"stage": "observe", "key": key, "finished": float(len(store.list())), "inputs": {}})


def given(artefact: Artefact, *files: tuple[str, str]) -> Artefact:
    """The artefact as if it had been made with these contents of its files (name, text), hashes and all."""
    for name, content in files:
        (artefact.path / name).write_text(content, "utf-8")
    artefact.manifest["files"] = file_records(artefact.path)
    write_json(artefact.path / MANIFEST, artefact.manifest)
    return artefact


def scored(
    store: Store,
    slug: str = "run",
    *,
    base: dict[str, list[Observation]] | None = None,
    edited: dict[str, list[Observation]] | None = None,
    benchmark: str = "fictional",
) -> Artefact:
    """A score artefact with its observe artefacts, made by the stage itself."""
    inputs = {
        "base": observed(store, f"{slug}_base", base or state(1.0)),
        "edited": observed(store, f"{slug}_edited", edited or state(0.2)),
    }
    config = Experiment(benchmark=BenchmarkConfig(name=benchmark))
    config = replace(config, run=replace(config.run, outputs=str(store.root)))
    key = hash_json(["score", slug, len(store.list())])
    draft = store.draft("score", slug, key, fresh=True)
    summary = score.run(StageContext(study_of(config), draft.path, inputs, SilentReporter()))
    return draft.complete(
        {
            "stage": "score",
            "key": key,
            "config": json.loads(json.dumps(asdict(config))),
            "inputs": {name: {"path": str(a.path), "key": a.key} for name, a in inputs.items()},
            "finished": float(len(store.list())),
            "summary": summary,
        }
    )
