"""CKA, masked Fisher information and the linear probe."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.tiny_models import FACTS, tiny_llama
from unierase_cli.contracts import UserError
from unierase_cli.models.load import LoadedModel
from unierase_cli.representation.entities import entities_of
from unierase_cli.representation.erasure import weighted_erasure
from unierase_cli.representation.fisher import block_fisher, fisher_erasure
from unierase_cli.representation.probe import other_tokens, probe_accuracy
from unierase_cli.representation.rows import EntityRow, entity_rows
from unierase_cli.representation.similarity import linear_cka, similarity_erasure
from unierase_cli.representation.states import States, read_states


def rows(loaded: LoadedModel, count: int = 5) -> list[EntityRow]:
    return entity_rows(loaded.prompts, entities_of(FACTS[:count])).rows


def test_cka_does_not_see_rotations_scales_and_shifts() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 8, generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=generator, dtype=torch.float64)).Q
    assert linear_cka(x, 3 * x @ rotation + 5) == pytest.approx(1)
    assert linear_cka(x, torch.randn(40, 8, generator=generator)) < 0.5


def test_by_cka_and_by_fisher_the_full_model_is_0_and_the_retain_model_1() -> None:
    full, retain = tiny_llama(seed=0), tiny_llama(seed=1)
    own = rows(full)
    f, r = read_states(full, own), read_states(retain, own)
    assert weighted_erasure(similarity_erasure(f, r, f)) == 0
    assert weighted_erasure(similarity_erasure(f, r, r)) == pytest.approx(1, abs=1e-6)
    flat, steep = block_fisher(full, own), block_fisher(retain, own)
    assert weighted_erasure(fisher_erasure(flat, steep, flat)) == pytest.approx(0, abs=1e-4)
    assert weighted_erasure(fisher_erasure(flat, steep, steep)) == 1


def test_without_a_difference_between_full_and_retain_model_there_is_no_score() -> None:
    full = tiny_llama()
    flat = block_fisher(full, rows(full))
    assert weighted_erasure(fisher_erasure(flat, flat, flat)) is None


def test_fisher_information_of_other_shapes_and_shares_is_refused() -> None:
    some, more = [torch.ones(4)], [torch.ones(5)]
    with pytest.raises(UserError, match="different numbers of weights"):
        fisher_erasure(some, some, more)
    for share in (0.0, 1.5):
        with pytest.raises(UserError, match="share"):
            fisher_erasure(some, some, some, share=share)


def test_fisher_information_is_the_mean_squared_gradient_and_leaves_the_model_frozen() -> None:
    loaded = tiny_llama()
    own = rows(loaded, 2)
    (one,), (other,) = ([block_fisher(loaded, [row])[2]] for row in own)
    assert torch.allclose(block_fisher(loaded, own)[2], (one + other) / 2)
    assert len(one) == sum(parameter.numel() for parameter in loaded.architecture.blocks[2].parameters())
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    with pytest.raises(ValueError, match="no rows"):
        block_fisher(loaded, [])


def test_a_probe_finds_what_a_state_says_and_nothing_in_noise() -> None:
    loaded = tiny_llama(num_hidden_layers=2)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(10, 200, (120,), generator=generator).tolist()
    own = [EntityRow(str(i), [1, 2, token], 2, 3) for i, token in enumerate(tokens)]
    others = other_tokens(own, seed=0)
    assert all(token != other and other in tokens for token, other in zip(tokens, others, strict=True))
    blocks, width = loaded.architecture.n_blocks, loaded.architecture.hidden_size
    said = States([loaded.architecture.head.weight[token].expand(blocks, 1, width).clone() for token in tokens])
    noise = States([torch.randn(blocks, 1, width, generator=generator) for _ in tokens])
    for right in probe_accuracy(loaded, own, said, others):
        assert sum(right) / len(right) > 0.95
    found = probe_accuracy(loaded, own, noise, others)
    for right in found:
        assert 0.3 < sum(right) / len(right) < 0.7
    assert probe_accuracy(loaded, own, noise, others) == found


def test_a_probe_needs_tokens_that_differ_and_a_row_for_every_fold() -> None:
    loaded = tiny_llama()
    same = [EntityRow(str(i), [1, 2, 3], 2, 3) for i in range(6)]
    with pytest.raises(ValueError, match="same token"):
        other_tokens(same, seed=0)
    with pytest.raises(ValueError, match="4 rows do not make 5 folds"):
        probe_accuracy(loaded, same[:4], States([]), [4] * 4)
