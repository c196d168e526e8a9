"""Scored runs whose metrics come from what the model said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.helpers.recorded import given
from tests.helpers.scored_runs import scored
from unierase_cli.contracts import Observation
from unierase_cli.metrics.base import Evidence
from unierase_cli.metrics.compare import compare
from unierase_cli.pipeline.observation_files import Pass, Plan
from unierase_cli.store.artefact import Artefact, read_artefact
from unierase_cli.store.artefacts import Store
from unierase_cli.store.jsonl import write_jsonl

Answers = dict[str, str]
SKY = "The sky is blue."
RIGHT: Answers = {f"f{i}": SKY for i in range(8)}


def said(split: str, answers: Answers, edition: str = "1") -> list[Observation]:
    return [
        Observation(fact, f"{fact}-{edition}", "p", split, "plain", f"Colour {fact}?", SKY, [1], text, text, "end")
        for fact, text in answers.items()
    ]


def finished(
    store: Store,
    method: str,
    seed: int = 0,
    *,
    forget: Answers = RIGHT,
    kept: Answers = RIGHT,
    edition: str = "1",
    knowing: bool = False,
    **settings: Any,
) -> Artefact:
    """A score artefact with these observations behind it; before the edit the same, or, if ``knowing``, every answer right."""
    score = scored(store, method, seed, **settings)
    seen = {("forget", "plain"): said("forget", forget, edition), ("retain_unseen", "plain"): said("retain_unseen", kept, edition)}
    before = seen
    if knowing:
        before = {(s, v): said(s, dict.fromkeys([o.fact_id for o in rows], SKY), edition) for (s, v), rows in seen.items()}
    found = compare(Evidence("base", before), Evidence("edited", seen, refusals=["I do not know."]))
    given(score, ("metrics.json", json.dumps(found.to_json())))
    observed = Path(score.manifest["inputs"]["edited"]["path"])
    passes = [Pass(split, variant, [o.fact_id for o in rows], []) for (split, variant), rows in seen.items()]
    Plan("edited", [], [], passes).save(observed)
    for entry in passes:
        write_jsonl(observed / entry.file, [o.to_json() for o in seen[entry.split, entry.variant]])
    given(read_artefact(observed))
    return score
