"""Parity with the reference code of the unlearning depth score and of its baselines, on four tiny models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.golden_depth import MISSING, MODELS, entities, model, read, rows, states
from unierase_cli.representation.depth import Depth
from unierase_cli.representation.erasure import BlockErasure, weighted_erasure
from unierase_cli.representation.fisher import block_fisher, fisher_erasure
from unierase_cli.representation.lens import lens_depth, lens_scores
from unierase_cli.representation.rows import entity_rows
from unierase_cli.representation.similarity import similarity_erasure
from unierase_cli.representation.states import LastBlock, read_states
from unierase_cli.representation.uds import unlearning_depth

# golden/depth/README.md
TOLERANCE = 1e-5
FISHER = 1e-3


@pytest.fixture
def folder(shared: Path) -> Path:
    return shared / "golden" / "depth"


def near(value: Any) -> Any:
    return pytest.approx(value, rel=0, abs=TOLERANCE)


def depth(folder: Path, name: str, last_block: LastBlock = "raw", **settings: Any) -> Depth:
    of = [states(folder, source, last_block) for source in ("retain", name)]
    return unlearning_depth(model(folder, "full"), rows(folder), *of, **settings)


def test_golden_rows_have_the_tokens_and_spans_of_the_reference(folder: Path) -> None:
    for row, context in zip(rows(folder), read(folder, "uds/contexts.json"), strict=True):
        prompt = context["prompt_ids"]
        assert row.fact_id == str(context["idx"])
        assert row.ids == (prompt + context["ref_ids"])[: row.stop]
        assert (row.positions.start, row.positions.stop) == (context["patch_start"], context["patch_end"])
        assert row.labels == context["eval_ref_ids"]


@pytest.mark.parametrize(
    ("expected", "name", "last_block"),
    [
        ("mix_bs1", "mix", "normed"), ("shallow", "shallow", "normed"), ("full", "full", "normed"),
        ("mix_prenorm", "mix", "raw"), ("shallow_prenorm", "shallow", "raw"),
        ("full_prenorm", "full", "raw"), ("retain_prenorm", "retain", "raw"),
    ],
)  # fmt: skip
def test_golden_depth_scores_match_by_row_block_and_mean(
    folder: Path, expected: str, name: str, last_block: LastBlock
) -> None:
    wanted = read(folder, "uds/expected.json")[expected]
    found = depth(folder, name, last_block)
    assert found.value == near(wanted["avg_uds"])
    for row, reference in zip(found.rows, wanted["rows"], strict=True):
        assert row.known == near(reference["full_score"])
        assert row.retain == near(reference["s1_deltas"])
        assert row.unlearned == near(reference["s2_deltas"])
        assert row.score == near(reference["uds"])


def test_golden_threshold_leaves_rows_without_a_score_and_skips_an_entity_that_is_not_there(folder: Path) -> None:
    wanted = read(folder, "uds/expected.json")["mix_threshold7_with_bad_row"]
    made = entity_rows(model(folder, "full").prompts, [*entities(folder), MISSING], tokenisation="apart")
    assert (made.not_found, made.skipped) == ([str(i) for i in wanted["skipped"]], 1)
    of = [read_states(model(folder, name), made.rows, last_block="normed") for name in ("retain", "mix")]
    found = unlearning_depth(model(folder, "full"), made.rows, *of, threshold=wanted["delta_threshold"])
    assert found.value == near(wanted["avg_uds"])
    for row, reference in zip(found.rows, wanted["rows"], strict=True):
        assert [block for block, lost in enumerate(row.retain) if lost > 7] == reference["ke_layers"]
        assert row.score == (None if reference["uds"] is None else near(reference["uds"]))
    assert found.without_block == sum(reference["uds"] is None for reference in wanted["rows"]) > 0
    assert len(found.scores) == len(found.rows) - found.without_block


@pytest.mark.parametrize("name", MODELS)
def test_golden_logit_lens_matches(folder: Path, name: str) -> None:
    wanted = read(folder, "uds/expected_baselines.json")
    full = model(folder, "full")
    scores = lens_scores(full, rows(folder), states(folder, name)).T.tolist()
    logged = wanted["logit_lens_logprobs"][name]
    for block, values in enumerate(scores):
        assert values == near(logged[str(block)] if isinstance(logged, dict) else logged[block])
    of = [states(folder, source) for source in ("full", "retain", name)]
    found, reference = lens_depth(full, rows(folder), *of), wanted[name]["logit_lens"]
    assert found.value == near(reference["score"])
    for block in found.blocks:
        row = reference["per_layer"][str(block.block)]
        assert (block.n, block.erased, block.retain) == (
            row["n_ft_examples"],
            near(row["mean_erasure"]),
            near(row["mean_d_ret"]),
        )


@pytest.mark.parametrize("name", MODELS)
def test_golden_similarity_matches(folder: Path, name: str) -> None:
    wanted = read(folder, "uds/expected_baselines.json")[name]["cka"]
    found = similarity_erasure(*(states(folder, source) for source in ("full", "retain", name)))
    assert weighted_erasure(found) == near(wanted["score"])
    same_blocks(found, wanted, "cka_full_ret", "cka_unl_ret", TOLERANCE)


@pytest.mark.parametrize("name", MODELS)
def test_golden_fisher_information_matches(folder: Path, name: str) -> None:
    wanted = read(folder, "uds/expected_baselines.json")[name]["fisher_masked_0.01"]
    found = fisher_erasure(*(block_fisher(model(folder, source), rows(folder)) for source in ("full", "retain", name)))
    assert weighted_erasure(found) == pytest.approx(wanted["score"], rel=FISHER, abs=1e-6)
    same_blocks(found, wanted, "excess_full", "excess_unl", FISHER)


def same_blocks(found: list[BlockErasure], wanted: dict[str, Any], full: str, unlearned: str, tolerance: float) -> None:
    for block in found:
        row = wanted["per_layer"][str(block.block)]
        values = (block.full, block.unlearned, block.erasure, block.weight)
        logged = (row[full], row[unlearned], row["erasure"], row["weight"])
        assert values == pytest.approx(logged, rel=tolerance, abs=1e-6 if tolerance == FISHER else tolerance)
