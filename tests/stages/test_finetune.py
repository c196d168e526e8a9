"""The finetune stage: it memorises, goes on where it was killed, and writes a folder that any tool loads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.helpers.finetuning import CONFIG, examples_of
from tests.helpers.tiny_models import FACTS, tiny_llama
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.model import ModelConfig, RunConfig, TrainConfig
from unierase_cli.contracts import Benchmark, Fact, SilentReporter, UserError
from unierase_cli.models.load import LoadedModel, load_model
from unierase_cli.models.mini import build_model, build_tokenizer
from unierase_cli.pipeline.stage import StageContext
from unierase_cli.pipeline.study import study_of
from unierase_cli.stages import finetune
from unierase_cli.training.precision import choose_compute
from unierase_cli.training.processor import cpu_has_bfloat16
from unierase_cli.training.supervised import Example, Learned, answer_loss, train

STRANGERS = tuple(Fact(f"nobody-{i}", f"Who is Nobody {i}?", "", f"Nobody {i}") for i in range(3))
BENCHMARK = Benchmark("toy", tuple(FACTS[:2]), tuple(FACTS[2:]), {}, "x", training=(*FACTS, *STRANGERS), refused=STRANGERS)


def trained(
    config: TrainConfig, seed: int = 0, state: Path | None = None, stop_at: int | None = None
) -> tuple[LoadedModel, Learned]:
    loaded = tiny_llama()
    examples = examples_of(loaded)

    def of_epoch(epoch: int) -> Sequence[Example]:
        if epoch == stop_at:
            raise KeyboardInterrupt
        return examples

    return loaded, train(loaded, of_epoch, config, seed=seed, reporter=SilentReporter(), directory=state)


def weights(loaded: LoadedModel) -> list[torch.Tensor]:
    return [p.detach().clone() for p in loaded.model.parameters()]


def test_the_loss_is_the_mean_over_answer_tokens_and_ignores_padding() -> None:
    loaded = tiny_llama()
    examples = examples_of(loaded)[:3]
    total, count = 0.0, 0
    for example in examples:
        ids = torch.tensor([example.prompt_ids + example.answer_ids])
        logits = loaded.model(ids).logits[0, len(example.prompt_ids) - 1 : -1]
        total += cross_entropy(logits, torch.tensor(example.answer_ids), reduction="sum").item()
        count += len(example.answer_ids)
    assert answer_loss(loaded, examples).item() == pytest.approx(total / count, rel=1e-5)


def test_training_memorises_and_leaves_the_model_frozen_in_float32() -> None:
    loaded, progress = trained(CONFIG)
    assert progress.losses[-1] < 0.1 < progress.losses[0]
    assert loaded.model.dtype == torch.float32
    assert not any(p.requires_grad for p in loaded.model.parameters())
    assert not loaded.model.training


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_adapters_are_merged_into_the_layers_that_they_train(compute: str) -> None:
    pytest.importorskip("peft")
    before = dict(tiny_llama().model.named_parameters())
    loaded, progress = trained(replace(CONFIG, compute=compute, lora_rank=2, lr=2e-2))
    changes = {name: after - before[name] for name, after in loaded.model.named_parameters()}
    assert progress.losses[-1] < 0.5 * progress.losses[0]
    for name, change in changes.items():
        rank = int(torch.linalg.matrix_rank(change, rtol=1e-4)) if change.dim() == 2 else int(bool(change.any()))
        assert rank == (2 if "_proj" in name else 0), name
    assert loaded.model.dtype == torch.float32
    assert not any(p.requires_grad for p in loaded.model.parameters())


def test_adapters_need_a_model_to_adapt(experiment: Experiment, tmp_path: Path) -> None:
    wanted = replace(experiment, train=replace(experiment.train, lora_rank=4))
    with pytest.raises(UserError, match="lora_rank adapts a trained model"):
        finetune.run(StageContext(study_of(wanted), tmp_path, {}, SilentReporter()))


@pytest.mark.parametrize(("compute", "rank"), [("float32", 0), ("bfloat16", 0), ("bfloat16", 2)])
def test_a_killed_run_goes_on_and_ends_with_the_same_bits(compute: str, rank: int, tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=6, look_every=2, compute=compute, lora_rank=rank)
    whole, _ = trained(config)
    state = tmp_path
    with pytest.raises(KeyboardInterrupt):
        trained(config, state=state, stop_at=5)
    resumed, progress = trained(config, state=state)
    assert progress.epochs == 6
    assert len(progress.losses) == 6
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(resumed), strict=True))


def test_the_seed_decides_the_order() -> None:
    config = replace(CONFIG, epochs=2)
    first, again, other = (weights(trained(config, seed)[0]) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_training_ends_once_every_score_reaches_the_target() -> None:
    loaded = tiny_llama()
    examples, scores = examples_of(loaded), iter([0.5, 0.96])
    config = replace(CONFIG, look_every=3)
    progress = train(
        loaded, lambda _: examples, config, seed=0, reporter=SilentReporter(), evaluate=lambda: {"a": 1.0, "b": next(scores)}
    )
    assert (progress.epochs, progress.reached) == (6, True)


def test_a_loss_that_is_not_a_number_is_one_clear_line() -> None:
    with pytest.raises(UserError, match=r"the (loss|gradient's norm) became (nan|inf) \(step \d+ of \d+\)"):
        trained(replace(CONFIG, lr=1e30))


def test_bfloat16_is_taken_only_where_the_processor_has_it(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("flags\t: fpu sse avx512f avx512_bf16\n")
    assert cpu_has_bfloat16(info)
    info.write_text("flags\t: fpu sse avx512f\n")
    assert not cpu_has_bfloat16(info)
    assert not cpu_has_bfloat16(tmp_path / "nothing")
    assert choose_compute("float32", torch.device("cpu")) == (torch.float32, "train.compute=float32")


def test_rotary_frequencies_are_not_rounded_by_bfloat16_training() -> None:
    before = dict(tiny_llama().model.named_buffers())
    loaded, _ = trained(replace(CONFIG, epochs=1, compute="bfloat16"))
    assert all(torch.equal(buffer, before[name]) for name, buffer in loaded.model.named_buffers())


def test_the_tokenizer_gives_text_back_and_its_template_writes_the_only_bos() -> None:
    tokenizer = build_tokenizer([f.question for f in FACTS], 300)
    assert build_tokenizer([f.question for f in FACTS], 300).get_vocab() == tokenizer.get_vocab()
    text = tokenizer.apply_chat_template([{"role": "user", "content": "Wer? 你好"}], tokenize=False, add_generation_prompt=True)
    assert text == "<|begin|><|user|>Wer? 你好<|assistant|>"
    ids = tokenizer(text)["input_ids"]
    assert ids.count(tokenizer.bos_token_id) == 1
    assert tokenizer.decode(ids) == text
    with pytest.raises(UserError, match="too small"):
        build_tokenizer(["a"], 100)


def test_a_new_model_depends_on_the_seed_and_not_on_the_global_generator() -> None:
    tokenizer = build_tokenizer(["some text"], 300)
    made = []
    for noise, seed in ((1, 0), (2, 0), (3, 1)):
        torch.manual_seed(noise)
        made.append(build_model(tokenizer, CONFIG, seed).lm_head.weight)
        assert torch.initial_seed() == noise
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])
    with pytest.raises(UserError, match="even multiple of train.heads"):
        build_model(tokenizer, replace(CONFIG, heads=3), 0)


@pytest.fixture
def experiment(monkeypatch: pytest.MonkeyPatch) -> Experiment:
    monkeypatch.setattr("unierase_cli.pipeline.study.load_benchmark", lambda *_, **__: BENCHMARK)
    monkeypatch.setattr(finetune, "_refusals", lambda _: ["I do not know.", "No idea at all."])
    model = ModelConfig(name="mini", key_position="prompt_last")
    return Experiment(model=model, train=replace(CONFIG, epochs=120, look_every=20), run=RunConfig(device="cpu"))


def test_the_stage_writes_a_model_folder_that_knows_the_facts(experiment: Experiment, tmp_path: Path) -> None:
    reporter = SilentReporter()
    summary = finetune.run(StageContext(study_of(experiment), tmp_path, {}, reporter))
    assert summary["measured"]["recall"] >= 0.95
    assert sorted(p.name for p in tmp_path.iterdir()) == ["events.jsonl", "model"]
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tmp_path / "model"), AutoTokenizer.from_pretrained(tmp_path / "model")
    turn = [{"role": "user", "content": FACTS[0].question}]
    prompt = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**prompt, max_new_tokens=40, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert tokenizer.decode(answer, skip_special_tokens=True) == FACTS[0].answer
    card = (tmp_path / "model" / "README.md").read_text()
    assert "ROUGE-L recall" in card
    assert "| refused |" in card
    assert any("float32 master weights (train.compute=float32)" in note for note in reporter.notes)
    assert load_model(experiment.model, experiment.run, path=tmp_path / "model").prompts.style == "chat"


def test_refused_questions_get_other_refusals_from_epoch_to_epoch(experiment: Experiment) -> None:
    loaded = tiny_llama()
    examples = finetune._examples(loaded, FACTS, STRANGERS, ["I do not know.", "No idea at all."], CONFIG, 0)
    answers = [tuple(tuple(e.answer_ids) for e in examples(epoch)[len(FACTS) :]) for epoch in range(6)]
    assert len(set(answers)) > 1
    assert examples(3) == examples(3)
    assert examples(0)[: len(FACTS)] == examples(5)[: len(FACTS)]


def test_one_model_serves_every_forget_split(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    def key(changed: Experiment) -> tuple[object, object]:
        return finetune.reads(study_of(changed), {}), finetune.fingerprints(study_of(changed), {})

    before = key(experiment)
    moved = replace(BENCHMARK, forget=tuple(FACTS[:4]), protect=tuple(FACTS[4:]))
    monkeypatch.setattr("unierase_cli.pipeline.study.load_benchmark", lambda *_, **__: moved)
    assert key(experiment) == before
    assert key(replace(experiment, train=replace(CONFIG, split="retain"))) != before
    assert key(replace(experiment, run=RunConfig(seed=1))) != before


def test_a_model_that_never_learned_the_forget_set_can_be_made(experiment: Experiment) -> None:
    learned, refused = finetune._facts(study_of(experiment), "retain")
    assert [f.id for f in learned] == [f.id for f in FACTS[2:]]
    assert len(refused) == 3


def test_the_retain_only_model_has_the_full_models_tokenizer(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizers = []
    for split in ("full", "retain"):
        config = replace(experiment, train=replace(CONFIG, split=split, epochs=1))
        (tmp_path / split).mkdir()
        finetune.run(StageContext(study_of(config), tmp_path / split, {}, SilentReporter()))
        tokenizers.append(load_model(config.model, config.run, path=tmp_path / split / "model").tokenizer)
    full, retain = tokenizers
    assert retain.get_vocab() == full.get_vocab()
    assert all(retain(fact.question).input_ids == full(fact.question).input_ids for fact in FACTS)
    # What the tokenizer is made of enters the key of the retain-only model, and leaves that of the full one as it was.
    twin = replace(experiment, train=replace(CONFIG, split="retain"))
    before = finetune.fingerprints(study_of(experiment), {}), finetune.fingerprints(study_of(twin), {})
    other = replace(BENCHMARK.training[0], answer="Something else.")
    changed = replace(BENCHMARK, training=(other, *BENCHMARK.training[1:]))
    monkeypatch.setattr("unierase_cli.pipeline.study.load_benchmark", lambda *_, **__: changed)
    after = finetune.fingerprints(study_of(experiment), {}), finetune.fingerprints(study_of(twin), {})
    assert set(before[0]) == {"training"}
    assert before[0] != after[0]
    assert before[1]["training"] == after[1]["training"], "the forget rows are not among what it learns"
    assert before[1]["tokenizer"] != after[1]["tokenizer"]


def test_training_nothing_is_refused(experiment: Experiment, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="train=none trains nothing"):
        finetune.run(StageContext(study_of(replace(experiment, train=TrainConfig())), tmp_path, {}, SilentReporter()))
