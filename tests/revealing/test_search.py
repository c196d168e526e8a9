"""The search for instructions: the network's confidence, the soft prompts, the budget, and resuming."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.helpers.telling import CONFIG
from tests.helpers.tiny_models import FAMILIES, tiny, tiny_llama
from unierase_cli.config.sections.reveal import RevealConfig
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.inference.generate import answer_text, generate
from unierase_cli.inference.soft_prompts import continued, last_states
from unierase_cli.revealing import bandit
from unierase_cli.revealing.bandit import NeuralUCB
from unierase_cli.revealing.instructions import Instruction, seeds
from unierase_cli.revealing.search import Tried, chosen, search
from unierase_cli.revealing.writer import SIZE, Writer

SMALL = replace(CONFIG, search="bandit", budget=9, start=4, rounds=2, candidates=32)


class Plain:
    """Writes the rounded first coordinate; the features are the point itself."""

    def __init__(self) -> None:
        self.written = 0

    def features(self, z: Tensor) -> Tensor:
        return z

    def write(self, z: Tensor) -> list[str]:
        self.written += len(z)
        return [f"Where does __NAME__ stand at {float(one[0]):.4f}?" for one in z]


def number_in(text: str) -> float:
    return float(text.removesuffix("?").rsplit(" ", 1)[1])


def test_the_bound_is_the_prediction_plus_what_the_gradients_say() -> None:
    network = NeuralUCB(5, 0, exploration=2.0, ridge=0.1)
    x = torch.rand(3, 5, generator=torch.Generator().manual_seed(0))
    network.chosen(x[1:])
    names = ("first", "first_bias", "last", "last_bias")
    network.parameters = [value.requires_grad_(True) for value in network.parameters]
    squares = []
    for row in x:
        gradients = torch.autograd.grad(network.predict(row[None])[0], network.parameters)
        squares.append([g**2 for g in gradients])
    network.parameters = [value.detach() for value in network.parameters]
    for place, name in enumerate(names):
        expected = 0.1 + squares[1][place] + squares[2][place]
        assert torch.allclose(getattr(network.confidence, name), expected, rtol=1e-4)
    width = torch.stack([
        sum((g / getattr(network.confidence, n)).sum() for g, n in zip(row, names, strict=True)) for row in squares
    ])  # fmt: skip
    assert torch.allclose(network.bound(x), network.predict(x) + (0.2 * width).sqrt(), rtol=1e-4)


def test_the_network_learns_the_scores_from_the_same_start_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bandit, "STEPS", 150)
    x = torch.eye(4)
    y = torch.tensor([0.0, 1.0, 0.5, 0.2])
    network = NeuralUCB(4, 0, 1.0, 1e-4)
    network.train(x, y)
    assert torch.allclose(network.predict(x), y, atol=0.15)
    first = network.predict(x)
    network.train(x, 1 - y)
    network.train(x, y)
    assert torch.equal(network.predict(x), first)


def test_both_searches_keep_to_the_budget_and_begin_with_the_same_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bandit, "STEPS", 30)
    found = {}
    for name in ("random", "bandit"):
        writer = Plain()
        config = replace(SMALL, search=name)
        found[name] = search("person", writer, number_in, config, seed=1, reporter=SilentReporter())
        assert writer.written == len(found[name]) == SMALL.budget
    assert found["random"][:4] == found["bandit"][:4]
    assert found["random"][4:] != found["bandit"][4:]
    assert [t.round for t in found["bandit"]] == [0] * 6 + [1] * 3
    assert all(0 <= value <= 1 for one in found["bandit"] for value in one.z)


def test_an_interrupted_search_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bandit, "STEPS", 30)
    file = tmp_path / "search.jsonl"
    whole = search("person", Plain(), number_in, SMALL, seed=1, reporter=SilentReporter(), file=file)
    lines = file.read_text("utf-8").splitlines(keepends=True)
    assert len(lines) == SMALL.budget
    file.write_text("".join(lines[:6]), "utf-8")
    writer = Plain()
    assert search("person", writer, number_in, SMALL, seed=1, reporter=SilentReporter(), file=file) == whole
    assert writer.written == SMALL.budget - 6


def test_the_best_new_instructions_are_kept() -> None:
    texts = [("Who is __NAME__?", 0.9), ("Tell us of __NAME__.", 0.5), ("tell us of __NAME__", 0.4), ("What of __NAME__?", 0.3)]
    tried = [Tried("person", [0.0], text, score, 0) for text, score in [*texts, ("No use.", 0.0)]]
    known = [Instruction("seed", "Who is __NAME__?", "person")]
    found = chosen(tried, known, replace(SMALL, keep=5))
    assert [(one.text, one.form, one.origin) for one in found] == [
        ("Tell us of __NAME__.", "list", "bandit"), ("What of __NAME__?", "question", "bandit"),
    ]  # fmt: skip
    assert len(chosen(tried, known, replace(SMALL, keep=1))) == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_a_soft_prompt_of_token_embeddings_is_that_text(family: str) -> None:
    loaded = tiny(family)
    ids = loaded.prompts.prompt("Who is Ada?").ids
    first = len(loaded.prompts.bos_ids)
    soft = loaded.architecture.embedding.weight[torch.tensor([ids[first : first + 3]])]
    rest = [*ids[:first], *ids[first + 3 :]]
    (text,) = continued(loaded, soft, rest, 6)
    (wanted,) = generate(loaded, [ids], max_new_tokens=6)
    assert text.strip() == answer_text(loaded, wanted).strip()
    state = loaded.architecture.backbone(torch.tensor([ids])).last_hidden_state[:, -1]
    assert torch.allclose(last_states(loaded, soft, rest), state.detach(), atol=1e-5)


def test_a_writer_gives_every_point_a_soft_prompt_of_the_models_own_size() -> None:
    loaded = tiny_llama()
    writer = Writer(loaded, seeds("person", ["own"])[:2], 3, 0)
    z = torch.rand(4, SIZE, generator=torch.Generator().manual_seed(0))
    soft = writer.soft(z)
    assert soft.shape == (4, 3, 32)
    assert torch.allclose(soft.norm(dim=-1), torch.full((4, 3), writer.norm), rtol=1e-4)
    assert torch.equal(soft, Writer(loaded, seeds("person", ["own"])[:2], 3, 0).soft(z))
    assert torch.allclose(writer.features(z).norm(dim=1), torch.ones(4), atol=1e-5)
    assert len(writer.write(z)) == 4


def test_a_budget_that_the_start_uses_up_is_refused() -> None:
    with pytest.raises(UserError, match=r"reveal\.budget=20 is used up"):
        RevealConfig(search="bandit", budget=20, start=20)
    with pytest.raises(UserError, match="fewer than"):
        RevealConfig(search="random", budget=20, candidates=10)
    assert RevealConfig(search="random", budget=20, start=20).budget == 20
