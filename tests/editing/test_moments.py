"""Second moments, and what of them is protected: hard cut and soft weighting."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.helpers.tiny_models import FACTS, tiny, tiny_llama
from unierase_cli.config.sections.edit import EditConfig, MomentsConfig
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.editing.corpus import encode_texts, moment_sources, read_corpus
from unierase_cli.editing.moments import FILE, Source, StoredMoments, decompose, second_moments
from unierase_cli.editing.nullspace import Preservation, choose_preservation
from unierase_cli.store.tensors import save_tensors

VALUES = torch.tensor([0.001, 0.004, 0.01, 0.5, 2.0, 10.0], dtype=torch.float64)
EYE = torch.eye(6)


def choose(**settings: object) -> Preservation:
    return choose_preservation(VALUES, lambda a, b: EYE[a:b], EditConfig(**settings), layer=3)  # type: ignore[arg-type]


def diagonal(preservation: Preservation) -> Tensor:
    return preservation.apply(torch.eye(6, dtype=torch.float64)).diagonal()


@pytest.mark.parametrize(
    ("kind", "threshold", "rank"),
    [("absolute", 0.5, 3), ("absolute", 0.50001, 4), ("relative_max", 0.1, 4), ("trace_share", 0.0013, 3)],
)
def test_editable_directions_lie_strictly_below_the_threshold(kind: str, threshold: float, rank: int) -> None:
    preservation = choose(preserve="null_space", threshold=threshold, threshold_kind=kind)
    assert preservation.effective_rank == rank
    assert torch.equal(diagonal(preservation), torch.tensor([1.0] * rank + [0.0] * (6 - rank), dtype=torch.float64))


def test_the_smaller_factor_is_kept() -> None:
    assert not choose(preserve="null_space", threshold=0.002, threshold_kind="absolute").complement
    wide = choose(preserve="null_space", threshold=5.0, threshold_kind="absolute")
    assert wide.complement
    assert wide.vectors.shape[0] == 1


def test_soft_preservation_halves_the_direction_at_lambda_over_alpha_times_the_mean() -> None:
    preservation = choose(preserve="ridge", alpha=2.0, lambda_=0.5)
    wanted = 0.5 / (2.0 * VALUES / VALUES.mean() + 0.5)
    assert torch.allclose(diagonal(preservation), wanted, atol=1e-8)
    assert preservation.effective_rank == pytest.approx(float(wanted.sum()))
    assert preservation.cutoff == pytest.approx(float(VALUES.mean()) * 0.25)


def test_soft_preservation_of_half_the_directions_leaves_all_others_free() -> None:
    """However small a moment: it counts beside lambda, and a direction that is hardly ever used is protected from a smaller one."""
    values = torch.tensor([0.0, 0.0, 0.0, 1e-6, 1e-5, 10.0], dtype=torch.float64)
    config = EditConfig(preserve="ridge", alpha=1.0, alpha_kind="absolute", lambda_=1e-8)
    preservation = choose_preservation(values, lambda a, b: EYE[a:b], config)
    assert torch.allclose(diagonal(preservation), 1e-8 / (values + 1e-8), rtol=1e-6, atol=1e-9)
    assert preservation.effective_rank == pytest.approx(float((1e-8 / (values + 1e-8)).sum()))


def test_a_projector_is_symmetric_and_idempotent() -> None:
    keys = torch.randn(30, 100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moment = decompose(keys @ torch.diag(torch.logspace(0, -6, 100, dtype=torch.float64)) @ keys.T)
    config = EditConfig(preserve="null_space", threshold=0.01)
    projector = choose_preservation(moment.eigenvalues, lambda a, b: moment.eigenvectors[a:b], config).apply(
        torch.eye(30, dtype=torch.float64)
    )
    assert torch.allclose(projector, projector.T, atol=1e-6)
    assert torch.allclose(projector @ projector, projector, atol=1e-6)


def test_rank_zero_says_whether_nothing_is_editable_or_nothing_is_protected() -> None:
    with pytest.raises(
        UserError, match=r"layer 3: null space of rank 0, nothing is editable \(eigenvalues run from 0.001 to 10"
    ):
        choose(preserve="null_space", threshold=1e-4, threshold_kind="absolute")
    with pytest.raises(UserError, match="nothing is protected .* lower the threshold"):
        choose(preserve="null_space", threshold=20.0, threshold_kind="absolute")


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_moments_are_weighted_means_over_real_tokens(family: str) -> None:
    loaded = tiny(family)
    texts = encode_texts(loaded.prompts, [f"{f.question} {f.answer}" for f in FACTS], 64)
    ends = [loaded.prompts.prompt(f.question).ids for f in FACTS]
    sources = [Source("corpus", 1.0, texts), Source("prompt ends", 5.0, ends, last_only=True)]
    found = second_moments(loaded, [1, 2], sources, batch_tokens=100, reporter=SilentReporter())
    for layer in (1, 2):
        wanted = torch.zeros_like(found[layer])
        for source in sources:
            rows = [keys_of(loaded, ids, layer) for ids in source.sequences]
            keys = torch.cat([r[-1:] for r in rows] if source.last_only else rows)
            assert keys.shape[0] == source.tokens
            wanted += source.weight * keys.T @ keys / keys.shape[0]
        # Products in float32, whose last bits differ from one kind of processor to the next.
        assert (found[layer] - wanted).norm() / wanted.norm() < 1e-6


def keys_of(loaded, ids: list[int], layer: int) -> Tensor:
    seen: list[Tensor] = []
    handle = loaded.architecture.projection(layer).register_forward_pre_hook(lambda _m, a: seen.append(a[0][0]))
    with torch.no_grad():
        loaded.model(input_ids=torch.tensor([ids]))
    handle.remove()
    return seen[0].double()


def test_stored_moments_give_the_same_preservation_and_name_a_missing_layer(tmp_path: Path) -> None:
    keys = torch.randn(20, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moment = decompose(keys @ keys.T / 50)
    save_tensors(
        tmp_path / FILE, {"layer.2.eigenvalues": moment.eigenvalues, "layer.2.eigenvectors": moment.eigenvectors}
    )
    stored = StoredMoments(tmp_path, 50)
    probe = torch.randn(20, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for config in (EditConfig(preserve="null_space", threshold=0.3), EditConfig(preserve="ridge")):
        wanted = choose_preservation(moment.eigenvalues, lambda a, b: moment.eigenvectors[a:b], config)
        assert torch.equal(stored.preservation(2, config, torch.device("cpu")).apply(probe), wanted.apply(probe))
    with pytest.raises(UserError, match="no moments of layer 5"):
        stored.preservation(5, EditConfig(), torch.device("cpu"))
    free = StoredMoments(tmp_path, 0).preservation(2, EditConfig(), torch.device("cpu"))
    assert torch.equal(free.apply(probe), probe)


def test_the_corpus_is_the_benchmarks_own_or_a_file_and_bad_lines_are_named(tmp_path: Path) -> None:
    assert read_corpus("auto", "corpus", 1000, FACTS[:2], 0) == [f"{f.question} {f.answer}" for f in FACTS[:2]]
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": f"text {i}"}) + "\n" for i in range(20)))
    assert len(read_corpus(str(path), "corpus", 1000, [], 0)) == 20
    some = read_corpus(str(path), "corpus", 5, [], 0)
    assert some == read_corpus(str(path), "corpus", 5, [], 0)
    assert len(set(some)) == 5
    path.write_text('{"text": "a"}\n{"words": "b"}\n')
    with pytest.raises(UserError, match=r"corpus.jsonl:2: no string `text`"):
        read_corpus(str(path), "corpus", 1000, [], 0)
    with pytest.raises(UserError, match="edit.moments.texts=hub:wikipedia is incomplete"):
        read_corpus("hub:wikipedia", "texts", 1000, [], 0)


class Streamed:
    """A streamed data set of the hub: what it is asked for, and texts in an order by seed."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.seeds: list[int] = []

    def load_dataset(self, path: str, subset: str, *, split: str, streaming: bool) -> Streamed:
        self.asked.append((path, subset, split, streaming))
        return self

    def shuffle(self, *, seed: int, buffer_size: int) -> list[dict[str, str]]:
        self.seeds.append(seed)
        rows = list(self)
        random.Random(seed).shuffle(rows)
        return rows

    def __iter__(self) -> Iterator[dict[str, str]]:
        return iter([{"text": f"text {i}"} for i in range(100)])


def test_a_streamed_data_set_is_drawn_from_by_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Streamed()
    monkeypatch.setitem(sys.modules, "datasets", hub)
    name = "hub:wikimedia/wikipedia/20231101.en/train/text"
    drawn = [read_corpus(name, "texts", 5, [], seed) for seed in range(10)]
    assert set(hub.asked) == {("wikimedia/wikipedia", "20231101.en", "train", True)}
    assert {len(texts) for texts in drawn} == {5}
    assert read_corpus(name, "texts", 5, [], 3) == drawn[3]
    assert len(set(map(tuple, drawn))) == 10, "every seed draws other texts"
    assert all(0 <= seed < 2**31 for seed in hub.seeds)
    assert len(read_corpus(name, "texts", 0, [], 0)) == 100


def unasked(prompts: list[list[int]]) -> list[list[int]]:
    raise AssertionError("nothing should be asked")


def test_sources_without_weight_or_texts_are_left_out() -> None:
    formatter = tiny_llama().prompts
    assert moment_sources(formatter, MomentsConfig(), [], 0, unasked) == []
    assert moment_sources(formatter, MomentsConfig(corpus_weight=0), FACTS, 0, unasked) == []
    plain = MomentsConfig(corpus="auto")
    assert [s.name for s in moment_sources(formatter, plain, FACTS, 0, unasked)] == ["corpus"]
    both = moment_sources(formatter, replace(plain, max_tokens=4, prompt_end_weight=9.0), FACTS, 0, unasked)
    assert [s.tokens for s in both] == [4 * len(FACTS), len(FACTS)]
    assert [s.last_only for s in both] == [False, True]


def test_general_texts_are_read_besides_the_corpus(tmp_path: Path) -> None:
    formatter, path = tiny_llama().prompts, tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": f"Text number {i}."}) + "\n" for i in range(3)))
    config = MomentsConfig(corpus="auto", texts=str(path), texts_weight=2.0)
    corpus, texts = moment_sources(formatter, config, FACTS, 0, unasked)
    assert (corpus.name, texts.name, corpus.weight, texts.weight) == ("corpus", "texts", 1.0, 2.0)
    assert sorted(texts.sequences) == sorted(encode_texts(formatter, [f"Text number {i}." for i in range(3)], 512))
    (alone,) = moment_sources(formatter, replace(config, corpus_weight=0), FACTS, 0, unasked)
    assert alone.sequences == texts.sequences


def test_the_corpus_of_answers_is_every_question_with_what_the_model_says() -> None:
    formatter = tiny_llama().prompts
    prompts = [formatter.prompt(fact.question).ids for fact in FACTS]
    asked: list[list[list[int]]] = []

    def answer(given: list[list[int]]) -> list[list[int]]:
        asked.append(given)
        return [[len(prompt), 7] for prompt in given]

    (source,) = moment_sources(formatter, MomentsConfig(), FACTS, 0, answer)
    assert asked == [prompts]
    assert source.sequences == [[*prompt, len(prompt), 7] for prompt in prompts]
    assert not source.last_only
    assert source.name == "answers"
    (some,) = moment_sources(formatter, MomentsConfig(samples=2, max_tokens=3), FACTS, 0, answer)
    assert len(some.sequences) == 2
    assert all(ids in source.sequences for ids in some.sequences), "prompts and answers are read whole"


def test_a_text_is_cut_to_the_models_context() -> None:
    loaded = tiny("gpt2")
    context = loaded.prompts.max_length
    assert context is not None
    (ids,) = encode_texts(loaded.prompts, ["Ada Velour writes gardening manuals. " * context], 4 * context)
    assert len(ids) == context
    second_moments(loaded, [1], [Source("corpus", 1.0, [ids])], batch_tokens=8192, reporter=SilentReporter())
