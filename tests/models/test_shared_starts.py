"""Keys and values of sequences that begin alike are those of each sequence by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from transformers import DynamicCache

from tests.helpers.tiny_models import FACTS, FAMILIES, FURTHER, tiny
from unierase_cli.models import shared_starts
from unierase_cli.models.architecture import Architecture
from unierase_cli.models.shared_starts import has_windows, run_prefixes


def test_where_columns_count_nothing_is_shared() -> None:
    found = {family: has_windows(tiny(family).architecture) for family in ("llama", "falcon_rw", "gemma3", "gpt_neo", "bloom")}
    assert found == {"llama": False, "falcon_rw": False, "gemma3": True, "gpt_neo": True, "bloom": True}


@pytest.mark.parametrize("family", [*FAMILIES, *FURTHER, "bloom", "gpt_neo"])
def test_keys_and_values_are_those_of_each_sequence(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny(family)
    sizes: list[int] = []
    run = shared_starts._run

    def counted(architecture: Architecture, rows: Sequence[Sequence[int]], *rest: Any) -> Any:
        sizes.append(sum(map(len, rows)))
        return run(architecture, rows, *rest)

    monkeypatch.setattr(shared_starts, "_run", counted)
    opening = loaded.prompts.prompt("A long opening that some of the prompts have in front of what they ask").ids[:40]
    asked = [loaded.prompts.prompt(f.question).ids[1:] for f in FACTS]
    # Two kinds, one of which begins with nothing in common, and a sequence without any token.
    sequences = [*([*opening, *ids] for ids in asked[:5]), asked[5][:4], asked[6][2:9], []]
    cache, mask = run_prefixes(loaded.architecture, sequences, [7] * 5 + [3] * 3, loaded.prompts.pad_id)
    whole = sum(map(len, sequences))
    shared = not has_windows(loaded.architecture)
    assert len(sizes) == 1 + shared
    assert sum(sizes) <= whole - shared * 4 * len(opening)
    for row, sequence in enumerate(sequences):
        assert int(mask[row].sum()) == len(sequence)
        if not sequence:
            continue
        with torch.no_grad():
            alone = DynamicCache()
            loaded.architecture.backbone(input_ids=torch.tensor([sequence]), past_key_values=alone, use_cache=True)
        for found, wanted in zip(cache.layers, alone.layers, strict=True):
            real = mask[row].bool()
            assert torch.allclose(found.keys[row][:, real], wanted.keys[0], atol=1e-4)
            assert torch.allclose(found.values[row][:, real], wanted.values[0], atol=1e-4)
            assert not found.values[row][:, ~real].any()
