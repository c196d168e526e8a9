"""Checks of a token: improbable refusals before its training, greedy continuations after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from unierase_cli.contracts import Reporter
from unierase_cli.models.load import LoadedModel
from unierase_cli.store.refusals import is_out_of_memory
from unierase_cli.training.token.pairs import TokenExample
from unierase_cli.training.token.prefix import Prefix, Prefixes

# Facts whose continuation is measured, and rows per batch of these.
SAMPLE = 100
BATCH_ROWS = 32


def warn_improbable(found: Mapping[str, float], threshold: float, reporter: Reporter) -> dict[str, Any]:
    """Warn about refusals below ``threshold`` (nats per token); returns a summary for the record."""
    ordered = sorted(found, key=found.__getitem__)
    mean = sum(found.values()) / max(1, len(found))
    improbable = [text for text in ordered if found[text] < threshold]
    if improbable:
        worst = "; ".join(f'"{text}" ({found[text]:.1f})' for text in improbable[:3])
        reporter.warn(
            f"{len(improbable)} of {len(found)} refusals are improbable on this model (mean log-probability per token "
            f"{mean:.1f}, below {threshold:g}): a token can only lead to refusals that the model knows; "
            f"worst: {worst}. Give refusals that it knows with token.targets=FILE"
        )
    worst_known = {text: round(found[text], 4) for text in ordered[:5]}
    return {
        "mean_log_prob": round(mean, 4),
        "improbable": len(improbable),
        "refusals": len(found),
        "worst": worst_known,
    }


@torch.no_grad()
def continue_greedily(loaded: LoadedModel, prefix: Prefix, firsts: Sequence[int], most: int) -> list[list[int]]:
    """Greedy ids after each prefix and its first token (prefix + [UNL] + ...), up to ``most``, without the stop token."""
    architecture, stops = loaded.architecture, set(loaded.prompts.stop_ids)
    cache, mask, positions = prefix.cache(), prefix.mask, prefix.lengths[:, None]
    now = torch.tensor(list(firsts), device=loaded.device)[:, None]
    found: list[list[int]] = [[] for _ in firsts]
    open_rows = set(range(len(firsts)))
    for _ in range(most):
        mask = torch.cat([mask, torch.ones_like(now)], dim=1)
        hidden = architecture.backbone(
            input_ids=now, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        ).last_hidden_state
        now, positions = architecture.logits(hidden[:, -1]).argmax(-1, keepdim=True).to(mask.device), positions + 1
        for row in sorted(open_rows):
            token = int(now[row, 0])
            if token in stops:
                open_rows.discard(row)
            else:
                found[row].append(token)
        if not open_rows:
            break
    return found


def continuations(
    loaded: LoadedModel, examples: Sequence[TokenExample], prefixes: Prefixes | None = None
) -> dict[str, str]:
    """Fact id -> greedy text after question + [UNL] on the current model, without unlearning tokens."""
    prefixes = prefixes or Prefixes(loaded, 0)
    most = max((len(e.labels) for e in examples), default=0) + 4
    ordered = sorted(examples, key=lambda e: -len(e.prefix))
    texts = {}

    def go_on(batch: Sequence[TokenExample]) -> list[list[int]]:
        try:
            prefix = prefixes.of([e.prefix for e in batch])
        except Exception as error:
            if is_out_of_memory(error):
                prefixes.forget()
            raise
        return continue_greedily(loaded, prefix, [e.suffix[0] for e in batch], most)

    for start in range(0, len(ordered), BATCH_ROWS):
        for part, found in loaded.room.parts("questions to go on from", ordered[start : start + BATCH_ROWS], go_on):
            for example, ids in zip(part, found, strict=True):
                kept = [i for i in ids if i not in loaded.unlearn_ids]
                texts[example.fact_id] = str(loaded.tokenizer.decode(kept)).strip()
    return texts


def measure_continuations(
    loaded: LoadedModel,
    examples: Sequence[TokenExample],
    targets: Mapping[str, str],
    texts: Sequence[str],
    prefixes: Prefixes | None = None,
) -> dict[str, Any]:
    """What question + [UNL] leads to on the current model, for at most SAMPLE evenly spaced examples.

    ``to_own_target``: share that gives the fact's own refusal; ``to_a_refusal``: share that gives any of ``texts``, word for word.
    """
    n = min(SAMPLE, len(examples))
    found = continuations(loaded, [examples[i * len(examples) // n] for i in range(n)], prefixes)
    known = {text.strip() for text in texts}
    return {
        "facts": n,
        "to_own_target": sum(text == targets[fact_id].strip() for fact_id, text in found.items()) / max(1, n),
        "to_a_refusal": sum(text in known for text in found.values()) / max(1, n),
        "other_texts": [text for text in found.values() if text not in known][:5],
    }
