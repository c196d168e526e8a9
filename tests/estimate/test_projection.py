"""The projection of times: what grows with the facts, and that every phase counts."""

from __future__ import annotations

from dataclasses import replace

from scripts.projection import Work, works
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.model import ModelConfig
from unierase_cli.estimate.need import Rows
from unierase_cli.estimate.shapes import KNOWN
from unierase_cli.pipeline.study import study_of

ROWS = Rows(400, 3200, 4000)


def phases(rows: Rows = ROWS, shape: str = "llama-3.1-8b") -> dict[str, Work]:
    return {work.phase: work for work in works(study_of(Experiment(model=ModelConfig(path="a/b"))), KNOWN[shape], rows)}


def test_all_but_what_reads_the_kept_texts_grows_with_the_facts() -> None:
    once, twice = phases(), phases(replace(ROWS, forget=800))
    same = {name for name in once if twice[name] == once[name]}
    assert same == {"answers to keep, generated", "moments", "eigendecomposition"}
    for name in ("search, keys and solve", "forget set, answers scored"):
        assert twice[name].fast == 2 * once[name].fast
    assert min(work.fast + work.wide for work in once.values()) > 0


def test_a_generated_answer_takes_every_weight_once_for_each_of_its_tokens_and_one_pass_for_its_multiplications() -> None:
    shape, one = KNOWN["llama-3.1-8b"], phases(replace(ROWS, forget=1))["forget set, answers generated"]
    assert one.read == ROWS.usual_learned * shape.parameters * shape.stored
    inside = 2 * (shape.parameters - 2 * shape.vocabulary * shape.hidden)
    tokens = ROWS.usual_question + ROWS.usual_learned
    assert one.fast == tokens * inside + ROWS.usual_learned * 2 * shape.vocabulary * shape.hidden
