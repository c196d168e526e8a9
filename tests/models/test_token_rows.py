"""Unlearning tokens as data: on disk, in a model, and which fact leads to which."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.helpers.tiny_models import tiny, tiny_llama
from unierase_cli.contracts import UserError
from unierase_cli.models.token_rows import TokenRows, apply_token
from unierase_cli.models.vocabulary import get_rows


def some_rows(first_id: int, groups: int = 2, tied: bool = False) -> TokenRows:
    rows = torch.randn(2 * groups, 32, generator=torch.Generator().manual_seed(5))
    return TokenRows(
        [f"<unlearn_{g}>" for g in range(groups)],
        [first_id + g for g in range(groups)],
        rows[:groups],
        None if tied else rows[groups:],
        {"a": 0, "b": groups - 1},
        {"a": "I don’t know.", "b": "No idea."},
        {"continuation": {"to_a_refusal": 1.0}},
    )


@pytest.mark.parametrize("tied", [False, True])
def test_what_is_saved_is_what_is_loaded(tmp_path: Path, tied: bool) -> None:
    rows = some_rows(7, tied=tied)
    rows.save(tmp_path)
    again = TokenRows.load(tmp_path)
    assert (again.names, again.ids, again.assignment, again.targets, again.info) == (
        rows.names,
        rows.ids,
        rows.assignment,
        rows.targets,
        rows.info,
    )
    assert torch.equal(again.rows_in, rows.rows_in)
    assert again.rows_out is None if tied else torch.equal(again.rows_out, rows.rows_out)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["rows.safetensors", "token.json"]


def test_a_damaged_record_is_told_in_one_line(tmp_path: Path) -> None:
    some_rows(7).save(tmp_path)
    (tmp_path / "token.json").write_text("{", "utf-8")
    with pytest.raises(UserError, match="missing or damaged"):
        TokenRows.load(tmp_path)


@pytest.mark.parametrize("family", ["llama", "llama_tied", "qwen2", "gpt2"])
def test_applying_a_token_leaves_every_other_row_as_it_was(family: str) -> None:
    loaded = tiny(family)
    architecture = loaded.architecture
    size = len(loaded.tokenizer)
    before_in = architecture.embedding.weight.clone()
    before_out = architecture.head.weight.clone()
    rows = some_rows(size, tied=architecture.tied)
    apply_token(loaded, rows)
    assert loaded.unlearn_ids == rows.ids
    found_in, found_out = get_rows(loaded, rows.ids)
    assert torch.equal(found_in, rows.rows_in)
    assert found_out is None if architecture.tied else torch.equal(found_out, rows.rows_out)
    assert torch.equal(architecture.embedding.weight[:size], before_in[:size])
    assert torch.equal(architecture.head.weight[:size], before_out[:size])


def test_a_token_of_another_model_is_refused() -> None:
    loaded = tiny_llama()
    with pytest.raises(UserError, match="vocabulary"):
        apply_token(loaded, some_rows(7))
    with pytest.raises(UserError, match="tied head"):
        apply_token(tiny_llama(tied=True), some_rows(320))
    with pytest.raises(UserError, match="width"):
        apply_token(tiny_llama(hidden_size=64), some_rows(320))


def test_a_fact_outside_the_training_has_the_only_token() -> None:
    assert some_rows(7, groups=1).token_of("never seen") == 7
    assert some_rows(7).token_of("b") == 8
    with pytest.raises(UserError, match="none of the 2 unlearning tokens"):
        some_rows(7).token_of("never seen")
