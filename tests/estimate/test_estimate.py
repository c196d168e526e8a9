"""The estimate's parts against the model itself: what a pass keeps, and which stages are counted.

``scripts/bench_memory.py`` holds the whole against measured processes.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.helpers.tiny_models import tiny_llama
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.edit import EditConfig
from unierase_cli.config.sections.evaluation import EvalConfig
from unierase_cli.config.sections.general import GeneralConfig
from unierase_cli.config.sections.mode import ModeConfig
from unierase_cli.config.sections.model import MethodConfig, ModelConfig, TermConfig
from unierase_cli.config.sections.token import TokenConfig
from unierase_cli.config.sections.unlearn import AdapterConfig, UnlearnConfig
from unierase_cli.estimate.memory_and_disk import PROCESS_BYTES, memory_needs
from unierase_cli.estimate.need import Need, Rows, stage_peaks
from unierase_cli.estimate.shapes import KNOWN, from_config
from unierase_cli.estimate.workspace import HEAP_LIMIT, Workspace
from unierase_cli.pipeline.study import study_of

ROWS = Rows(40, 200, 400)


def saved_bytes(trained: bool) -> tuple[int, Workspace, int]:
    """What autograd keeps of a pass through all blocks beside weights, the model's workspace, and the number of tokens."""
    loaded = tiny_llama(hidden_size=64, intermediate_size=256, num_hidden_layers=6)
    loaded.model.requires_grad_(trained)
    weights = {p.untyped_storage().data_ptr() for p in loaded.model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    embedded = torch.randn(4, 32, 64, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = loaded.architecture.backbone(inputs_embeds=embedded, use_cache=False).last_hidden_state
    assert out.requires_grad
    shape = from_config(json.loads(loaded.model.config.to_json_string(use_diff=False)))
    return sum(kept.values()), Workspace(shape, 4, heap=False), 4 * 32


@pytest.mark.parametrize("trained", [False, True])
def test_what_a_pass_keeps_for_the_way_back_is_what_autograd_saves(trained: bool) -> None:
    saved, space, tokens = saved_bytes(trained)
    assert space.kept(tokens, trained=trained) == pytest.approx(saved, rel=0.1)


def test_small_buffers_waste_the_heap_of_a_cpu_and_large_ones_go_back() -> None:
    cpu, gpu = (Workspace(KNOWN["gpt2"], 4, heap=heap) for heap in (True, False))
    assert cpu.held([HEAP_LIMIT - 1]) == 2 * gpu.held([HEAP_LIMIT - 1])
    assert cpu.held([HEAP_LIMIT]) == gpu.held([HEAP_LIMIT])


def peaks(experiment: Experiment, accelerator: bool = False) -> dict[str, int]:
    return stage_peaks(memory_needs(study_of(experiment), KNOWN["llama-3.2-1b"], ROWS, accelerator))


def test_a_cpus_stages_hold_the_process_the_weights_and_while_loading_the_file() -> None:
    experiment = Experiment(model=ModelConfig(path="a/b"))
    weights = KNOWN["llama-3.2-1b"].parameters
    assert min(peaks(experiment).values()) >= PROCESS_BYTES + weights * (4 + 2)
    stored = Experiment(model=ModelConfig(path="a/b", dtype="bfloat16"))
    assert min(peaks(stored).values()) < PROCESS_BYTES + weights * 4


def test_general_abilities_are_counted_where_they_are_asked() -> None:
    plain = Experiment(model=ModelConfig(path="a/b"))
    asking = replace(plain, eval=EvalConfig(general=GeneralConfig(suites=["gsm8k"])))
    assert "general" not in peaks(plain)
    assert peaks(asking)["general"] > peaks(asking)["observe"]


def test_training_takes_less_with_smaller_micro_batches_checkpointing_and_without_masters() -> None:
    method = MethodConfig("npo_gd", "gradient", False, False, TermConfig("npo"), TermConfig("gd"))

    def erase(**changes: object) -> int:
        unlearn = UnlearnConfig(compute="bfloat16", batch_size=32, **changes)  # type: ignore[arg-type]
        return peaks(Experiment(model=ModelConfig(path="a/b"), method=method, unlearn=unlearn), accelerator=True)[
            "erase"
        ]

    whole = erase()
    assert erase(micro_batch=4) < whole
    assert erase(gradient_checkpointing=True) < whole
    assert erase(masters=False, micro_batch=1) < erase(micro_batch=1) - 4 * KNOWN["llama-3.2-1b"].parameters


def test_rows_count_as_long_as_they_are_padded_and_where_they_are_labelled() -> None:
    def erase(retain: str = "gd", **changes: object) -> int:
        method = MethodConfig("me", "gradient", False, False, TermConfig("me"), TermConfig(retain))
        unlearn = UnlearnConfig(reference="second_model", max_length=500, **changes)  # type: ignore[arg-type]
        return peaks(Experiment(model=ModelConfig(path="a/b"), method=method, unlearn=unlearn), accelerator=True)["erase"]

    padded = erase(layout="closer_look")
    assert padded > erase()
    # Three float32 tensors of logits, of one of the two kinds of eight rows.
    everywhere = 3 * 8 * (500 - ROWS.learned) * KNOWN["llama-3.2-1b"].vocabulary * 4
    assert erase(layout="closer_look", forget_labels="all") - padded == everywhere
    assert erase("kl_all", layout="closer_look") - padded == everywhere
    assert erase("kl_all", layout="closer_look", forget_labels="all") - padded == 2 * everywhere


def test_averages_of_eight_bits_stay_eight_bits() -> None:
    method = MethodConfig("ga", "gradient", False, False, TermConfig("ga"), TermConfig("gd"))

    def erase(**changes: object) -> int:
        unlearn = UnlearnConfig(compute="bfloat16", micro_batch=1, masters=False, **changes)  # type: ignore[arg-type]
        return peaks(Experiment(model=ModelConfig(path="a/b"), method=method, unlearn=unlearn), accelerator=True)["erase"]

    # Two averages in bfloat16 against two of a byte.
    assert erase() - erase(optimizer="paged_adamw_8bit") == 2 * KNOWN["llama-3.2-1b"].parameters


def test_a_model_that_is_trained_further_is_counted_where_that_is_asked_for() -> None:
    experiment = Experiment(model=ModelConfig(path="a/b"))
    shape = KNOWN["llama-3.2-1b"]
    assert "finetune" not in stage_peaks(memory_needs(study_of(experiment), shape, ROWS, False))
    further = stage_peaks(memory_needs(study_of(experiment), shape, ROWS, False, finetune=True))
    assert further["finetune"] > 12 * shape.parameters


def test_what_is_kept_of_the_model_before_unlearning_is_counted_where_it_is_kept() -> None:
    def erase(retain: str, accelerator: bool = False, adapter: str = "none", **changes: object) -> int:
        method = MethodConfig("ga", "gradient", False, False, TermConfig("ga"), TermConfig(retain))
        unlearn = UnlearnConfig(reference_gib=100.0, **changes)  # type: ignore[arg-type]
        experiment = Experiment(model=ModelConfig(path="a/b"), method=method, unlearn=unlearn, adapter=AdapterConfig(adapter))
        return peaks(experiment, accelerator)["erase"]

    a_row = ROWS.usual_learned * KNOWN["llama-3.2-1b"].vocabulary * 4
    # Of 200 rows 40 are drawn five times over.
    assert erase("kl") - erase("gd") == pytest.approx(200 * (1 - 0.8**5) * a_row, rel=1e-6)
    assert erase("kl", pairing="closer_look") - erase("gd") == 40 * a_row
    assert erase("kl", max_steps=2) - erase("gd") == 2 * 8 * a_row
    assert erase("kl", reference="second_model") - erase("gd", reference="second_model") == 0
    assert erase("kl", adapter="lora") == erase("gd", adapter="lora")
    assert erase("kl", accelerator=True) == erase("gd", accelerator=True)


def test_rows_of_earlier_requests_are_counted_in_a_sequence_alone() -> None:
    def erase(mode: str, retain: str = "gd", **changes: object) -> int:
        method = MethodConfig("ga", "gradient", False, False, TermConfig("ga"), TermConfig(retain))
        unlearn = UnlearnConfig(reference_gib=100.0, **changes)  # type: ignore[arg-type]
        experiment = Experiment(model=ModelConfig(path="a/b"), method=method, unlearn=unlearn, mode=ModeConfig(mode))
        rows = replace(ROWS, steps=4, request=10)
        return stage_peaks(memory_needs(study_of(experiment), KNOWN["llama-3.2-1b"], rows, False))["erase"]

    assert erase("batch", rehearsal=1.0) == erase("batch")
    # A pass has as many rows as one of twice the batch.
    doubled = erase("sequential", batch_size=8) - erase("sequential", batch_size=4)
    assert erase("sequential", batch_size=4, rehearsal=1.0) - erase("sequential", batch_size=4) == pytest.approx(doubled, rel=1e-6)
    a_row = ROWS.usual_learned * KNOWN["llama-3.2-1b"].vocabulary * 4
    kept = [200 * (1 - (1 - rows / 200) ** 5) * a_row for rows in (10, 20)]
    plain = erase("sequential", "kl") - erase("sequential")
    rehearsed = erase("sequential", "kl", rehearsal=1.0) - erase("sequential", rehearsal=1.0)
    assert [plain, rehearsed] == pytest.approx(kept, rel=1e-6)


def test_a_refinement_without_noise_keeps_its_prefixes_twice_as_many_with_further_rounds() -> None:
    def prefixes(**changes: object) -> int:
        experiment = Experiment(model=ModelConfig(path="a/b"), token=TokenConfig(**changes))  # type: ignore[arg-type]
        needs = memory_needs(study_of(experiment), KNOWN["llama-3.2-1b"], ROWS, accelerator=True)
        return sum(need.bytes for need in needs if need.stage == "erase" and need.what.startswith("prefixes"))

    once = prefixes(refine_rounds=0)
    assert once > 0
    assert prefixes(refine_rounds=2) == 2 * once
    assert prefixes(refine_noise=0.1) == prefixes(refine_epochs=0) == 0


def test_a_tied_rows_guard_is_counted_while_it_looks_and_its_states_while_the_row_is_refined() -> None:
    def guarding(shape: str = "llama-3.2-1b", protect: int = ROWS.protect, **changes: object) -> list[Need]:
        experiment = Experiment(model=ModelConfig(path="a/b"), token=TokenConfig(**changes))  # type: ignore[arg-type]
        needs = memory_needs(study_of(experiment), KNOWN[shape], replace(ROWS, protect=protect), accelerator=True)
        return [need for need in needs if need.what.endswith("answers to guard")]

    states = [need for need in guarding() if need.what.startswith("states")]
    assert [need.phase for need in states] == ["guard", "refine token"]
    places, tied = 64 * EditConfig().moments.answer_tokens, KNOWN["llama-3.2-1b"]
    assert {need.bytes for need in states} == {places * tied.hidden * tied.stored}, "64 of 200 answers"
    (logits,) = (need for need in guarding() if need.what.startswith("logits"))
    assert logits.bytes == 3 * 256 * tied.vocabulary * 4
    assert sum(need.bytes for need in guarding(protect=32)) < sum(need.bytes for need in guarding())
    assert guarding(refine_guard=0.0) == guarding(refine_epochs=0) == guarding(protect=0) == []
    assert guarding("llama-3.1-8b") == [], "its output rows stay as they are"


def test_adversarial_adapters_stay_beside_the_weights_that_are_trained() -> None:
    def erase(rank: int) -> int:
        method = MethodConfig("npo_gd", "gradient", False, False, TermConfig("npo"), TermConfig("gd"))
        return peaks(Experiment(model=ModelConfig(path="a/b"), method=method, unlearn=UnlearnConfig(adversary_rank=rank)))["erase"]

    assert erase(8) - erase(0) == 8 * KNOWN["llama-3.2-1b"].adapter_width * 4
