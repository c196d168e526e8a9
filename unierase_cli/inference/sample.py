"""Samples answers from a model, for methods that train on what the model might say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig

from unierase_cli.contracts import stable_hash
from unierase_cli.inference.batching import choose_batch_size, length_sorted, restored
from unierase_cli.inference.generate import check_room
from unierase_cli.inference.texts import cut
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.partial import pad_sequences


@contextmanager
def own_settings(model: Any) -> Iterator[None]:
    """Ignore the checkpoint's generation defaults (such as a repetition penalty), which generate() uses for anything unset."""
    own, model.generation_config = model.generation_config, GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own


@torch.no_grad()
def sample(loaded: LoadedModel, prompts: Sequence[list[int]], *, seed: int, max_new_tokens: int) -> list[str]:
    """One answer per prompt at temperature 1, without special tokens, up to a stop text.

    Deterministic for the same seed and batch size.
    """
    lengths = [len(prompt) for prompt in prompts]
    check_room(lengths, loaded.prompts.max_length)
    batches = length_sorted(lengths, choose_batch_size(0, loaded.device.type))
    results = []
    model: Any = loaded.model
    with own_settings(model), torch.random.fork_rng([loaded.device] if loaded.device.type == "cuda" else []):
        torch.manual_seed(stable_hash(seed, "sampled answers") % (1 << 63))
        for batch in batches:
            padded = pad_sequences([prompts[i] for i in batch], loaded.prompts.pad_id, loaded.device, left=True)
            ids = model.generate(
                input_ids=padded.ids,
                attention_mask=padded.mask,
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                max_new_tokens=max_new_tokens,
                eos_token_id=loaded.prompts.stop_ids,
                pad_token_id=loaded.prompts.pad_id,
            )
            answers = ids[:, padded.ids.shape[1] :]
            texts = loaded.tokenizer.batch_decode(answers, skip_special_tokens=True)
            results.append([cut(str(text), loaded.stop_texts) for text in texts])
    return restored(batches, results)
