"""How large patches are: told from shapes, without the weights."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from tests.helpers.patches import make_patch, rows_for
from tests.helpers.tiny_models import tiny_llama
from unierase_cli.delivery.patch_show import describe
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.solve import LowRank
from unierase_cli.editing.weights import AppliedPatch
from unierase_cli.models.architecture import find_architecture
from unierase_cli.models.token_rows import TokenRows
from unierase_cli.store.artefact import Artefact

LLAMA_8B = LlamaConfig(
    vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
    num_key_value_heads=8, tie_word_embeddings=False,
)  # fmt: skip
STEPS, FACTS, LAYERS = 10, 40, (4, 5, 6, 7, 8)


def stored_bytes(patch: Patch) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in patch.tensors().values())


def test_the_tensors_of_a_patch_are_what_its_file_is_made_of(tmp_path: Path) -> None:
    loaded = tiny_llama()
    patch = make_patch(loaded, tokens=rows_for(loaded, ["<unlearn_0>"]))
    patch.save(tmp_path, 0)
    head = (tmp_path / "patch-000.safetensors").stat().st_size - stored_bytes(patch)
    assert 0 < head < 1000


def test_ten_steps_of_forty_facts_on_an_8b_model_take_less_than_200_megabytes() -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(LLAMA_8B)
        architecture = find_architecture(model)
        hidden, inner = architecture.hidden_size, architecture.inner_size(LAYERS[0])
        rows = TokenRows(["<unlearn_0>"], [128256], torch.empty(1, hidden), torch.empty(1, hidden))
        factors = {n: LowRank(torch.empty(hidden, FACTS), torch.empty(inner, FACTS)) for n in LAYERS}
        # What later steps need to know of earlier ones: V [d, m] of every layer, in the type that is solved in.
        state = sum(torch.empty(inner, STEPS * FACTS, dtype=torch.float64).nbytes for _ in LAYERS)
    whole = STEPS * stored_bytes(Patch(rows, factors, {}))
    assert (hidden, inner) == (4096, 14336)
    assert whole == STEPS * 4 * (len(LAYERS) * FACTS * (4096 + 14336) + 2 * 4096)
    assert whole < 200e6
    assert round(whole / 1e6) == 148
    # The state is not part of a patch: it is there to make further steps, and a carried patch leaves it behind.
    assert round(state / 1e6) == 229


def test_sizes_on_disk_are_shown_per_step_with_the_state_apart(tmp_path: Path) -> None:
    loaded = tiny_llama()
    for step in range(2):
        make_patch(loaded, step).save(tmp_path, step)
    (tmp_path / "state.safetensors").write_bytes(b"x" * 77)
    found = describe(Artefact(tmp_path, {"stage": "erase", "key": "k"}))
    files = [path.stat().st_size for path in tmp_path.glob("patch-*")]
    assert found["bytes"] == sum(files) == sum(step["bytes"] for step in found["steps"])
    assert found["state_bytes"] == 77
    assert [step["rank"] for step in found["steps"]] == [[3, 3], [3, 3]]
    assert found["base_hashes"] == AppliedPatch(loaded).hashes([1, 2])
