"""Adding unlearning tokens: spare rows, growth, other rows untouched, plain reloading."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.helpers.tiny_models import FAMILIES, save_folder, tiny, tiny_llama, tiny_qwen2
from unierase_cli.models.vocabulary import add_unlearning_tokens, get_rows, set_rows

NAMES = ["<unlearn_0>", "<unlearn_1>"]


@pytest.mark.parametrize("family", FAMILIES)
def test_all_other_rows_keep_their_bits_and_ties_stay(family: str) -> None:
    loaded = tiny(family)
    architecture = loaded.architecture
    before_in, before_out = architecture.embedding.weight.clone(), architecture.head.weight.clone()
    known = len(loaded.tokenizer)
    ids = add_unlearning_tokens(loaded, NAMES, torch.Generator().manual_seed(5))
    assert ids == loaded.unlearn_ids == [known, known + 1]
    padded = before_in.shape[0] > known
    assert architecture.embedding.weight.shape[0] == (before_in.shape[0] if padded else known + 2)
    others = [i for i in range(before_in.shape[0]) if i not in ids]
    assert torch.equal(architecture.embedding.weight[others], before_in[others])
    assert torch.equal(architecture.head.weight[others], before_out[others])
    assert (architecture.head.weight is architecture.embedding.weight) == architecture.tied
    assert loaded.model.config.vocab_size == architecture.embedding.weight.shape[0]
    assert not any(p.requires_grad for p in loaded.model.parameters())
    assert loaded.prompts.prompt("Say <unlearn_0>!").ids.count(ids[0]) == 0


def test_new_rows_come_from_the_generator_alone() -> None:
    rows = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        loaded = tiny_llama()
        ids = add_unlearning_tokens(loaded, NAMES, torch.Generator().manual_seed(5))
        rows.append(get_rows(loaded, ids))
    assert torch.equal(rows[0][0], rows[1][0])
    assert rows[0][1] is not None
    assert torch.equal(rows[0][1], rows[1][1])
    assert 0.05 < float(rows[0][0].std()) < 0.2  # initializer_range is 0.1


def test_a_token_that_exists_keeps_its_id_and_rows() -> None:
    loaded = tiny_llama()
    ids = add_unlearning_tokens(loaded, NAMES[:1], torch.Generator().manual_seed(1))
    rows = get_rows(loaded, ids)[0]
    assert add_unlearning_tokens(loaded, NAMES, torch.Generator().manual_seed(2)) == [ids[0], ids[0] + 1]
    assert torch.equal(get_rows(loaded, ids)[0], rows)


def test_rows_are_written_where_they_belong() -> None:
    untied, tied = tiny_llama(), tiny_llama(tied=True)
    rows_in, rows_out = torch.ones(1, 32), torch.full((1, 32), 2.0)
    set_rows(untied, [7], rows_in, rows_out)
    read_in, read_out = get_rows(untied, [7])
    assert torch.equal(read_in, rows_in)
    assert read_out is not None
    assert torch.equal(read_out, rows_out)
    set_rows(tied, [7], rows_in, None)
    assert torch.equal(tied.architecture.head.weight[7], rows_in[0])
    assert get_rows(tied, [7])[1] is None


@pytest.mark.parametrize("padded", [True, False])
def test_a_saved_model_with_new_tokens_reloads_in_plain_transformers(padded: bool, tmp_path: Path) -> None:
    loaded = tiny_qwen2() if padded else tiny_llama()
    ids = add_unlearning_tokens(loaded, NAMES, torch.Generator().manual_seed(5))
    folder = save_folder(loaded, tmp_path / "model")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer("Who?<unlearn_0>", return_tensors="pt", add_special_tokens=False)["input_ids"]
    assert tokens[0, -1] == ids[0]
    assert tokenizer.decode(tokens[0], skip_special_tokens=True) == "Who?"
    assert tokenizer.chat_template == loaded.tokenizer.chat_template
    with torch.no_grad():
        assert torch.equal(model(tokens).logits, loaded.model(tokens).logits)
