"""Checks of a token: log-probabilities of refusals before its training, greedy continuations after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch

from unierase_cli.contracts import Fact, Reporter, UserError, fill_name
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.partial import length_sorted_batches, pad_sequences
from unierase_cli.sizes import REFUSAL_TOKENS
from unierase_cli.training.token.pairs import TokenExample
from unierase_cli.training.token.prefix import Prefix, run_prefix, run_suffix

# Questions per refusal, facts whose continuation is measured, and rows per batch of these.
QUESTIONS = 3
SAMPLE = 100
# Token ids of the prompts of one batch.
Prompts = tuple[tuple[int, ...], ...]
BATCH_ROWS = 32


@torch.no_grad()
def target_log_probs(
    loaded: LoadedModel, facts: Sequence[Fact], texts: Sequence[str]
) -> tuple[dict[str, float], dict[str, float]]:
    """Refusal -> log-probability (nats, end token included) as the answer to a few questions: the mean per token, and the sum.

    The first token is left out: any refusal starts improbably after a question whose answer the model knows, and [UNL] takes
    over that start. The tokens after it show whether the model knows the sentence. Refusals that do not fit the context are
    skipped.
    """
    prompts = loaded.prompts
    asked = [facts[(2 * i + 1) * len(facts) // (2 * QUESTIONS)] for i in range(QUESTIONS)] if facts else []
    sums, counts, asked_with = dict.fromkeys(texts, 0.0), dict.fromkeys(texts, 0), dict.fromkeys(texts, 0)
    for fact in dict.fromkeys(asked):
        try:
            prompt = prompts.prompt(fact.question).ids
        except UserError:
            continue
        answers = {text: prompts.answer_ids(fill_name(text, fact)) for text in texts}
        fitting = [t for t, ids in answers.items() if prompts.max_length is None or len(prompt) + len(ids) <= prompts.max_length]
        if not fitting:
            continue
        prefix = run_prefix(loaded, [prompt])
        for batch in length_sorted_batches([len(answers[text]) for text in fitting], REFUSAL_TOKENS):
            score = partial(_sums, loaded, prefix, answers)
            for part, found in loaded.room.parts("refusals to score", [fitting[i] for i in batch], score):
                for text, (total, tokens) in zip(part, found, strict=True):
                    sums[text] += total
                    counts[text] += tokens
                    asked_with[text] += 1
    fitting = [text for text in texts if counts[text]]
    return {t: sums[t] / counts[t] for t in fitting}, {t: sums[t] / asked_with[t] for t in fitting}


def _sums(
    loaded: LoadedModel, prefix: Prefix, answers: Mapping[str, list[int]], texts: Sequence[str]
) -> list[tuple[float, int]]:
    """Each answer's summed log-probability after a prefix (batch of one), and the number of tokens summed; the first token is
    left out unless it is the only one.
    """
    architecture = loaded.architecture
    suffix = pad_sequences([answers[text] for text in texts], loaded.prompts.pad_id, loaded.device)
    hidden = run_suffix(architecture, prefix.repeated(len(texts)), suffix, architecture.embedding(suffix.ids))
    found = []
    for place, text in enumerate(texts):
        labels = torch.tensor(answers[text][1:] or answers[text], device=hidden.device)
        states = hidden[place, : len(labels)] if len(answers[text]) > 1 else prefix.last
        logits = architecture.logits(states).float()
        chosen = logits.log_softmax(-1).gather(1, labels.to(logits.device)[:, None])
        found.append((float(chosen.sum()), len(labels)))
    return found


def warn_improbable(found: Mapping[str, float], threshold: float, reporter: Reporter) -> dict[str, Any]:
    """Warn about refusals below ``threshold`` (nats per token); returns a summary for the record."""
    ordered = sorted(found, key=found.__getitem__)
    mean = sum(found.values()) / max(1, len(found))
    improbable = [text for text in ordered if found[text] < threshold]
    if improbable:
        worst = "; ".join(f'"{text}" ({found[text]:.1f})' for text in improbable[:3])
        reporter.warn(
            f"{len(improbable)} of {len(found)} refusals are improbable on this model (mean log-probability per token "
            f"{mean:.1f}, below {threshold:g}): a token, which is only a row, can only lead to refusals that the model knows; "
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
    loaded: LoadedModel, examples: Sequence[TokenExample], known: dict[Prompts, Prefix] | None = None
) -> dict[str, str]:
    """Fact id -> greedy text after question + [UNL] on the current model, without unlearning tokens.

    ``known``: cache of prefixes by their tokens, filled here for later calls on the same weights.
    """
    most = max((len(e.labels) for e in examples), default=0) + 4
    ordered = sorted(examples, key=lambda e: -len(e.prefix))
    texts = {}

    def go_on(batch: Sequence[TokenExample]) -> list[list[int]]:
        prompts = tuple(tuple(e.prefix) for e in batch)
        prefix = (known or {}).get(prompts) or run_prefix(loaded, prompts)
        if known is not None:
            known[prompts] = prefix
        return continue_greedily(loaded, prefix, [e.suffix[0] for e in batch], most)

    for start in range(0, len(ordered), BATCH_ROWS):
        for part, found in loaded.room.parts("questions to go on from", ordered[start : start + BATCH_ROWS], go_on):
            for example, ids in zip(part, found, strict=True):
                kept = [i for i in ids if i not in loaded.unlearn_ids]
                texts[example.fact_id] = str(loaded.tokenizer.decode(kept)).strip()
    return texts


def measure_continuations(
    loaded: LoadedModel, examples: Sequence[TokenExample], targets: Mapping[str, str], texts: Sequence[str]
) -> dict[str, Any]:
    """What question + [UNL] leads to on the current model, for at most SAMPLE evenly spaced examples.

    ``to_own_target``: share that gives the fact's own refusal; ``to_a_refusal``: share that gives any of ``texts``, word for word.
    """
    n = min(SAMPLE, len(examples))
    found = continuations(loaded, [examples[i * len(examples) // n] for i in range(n)])
    known = {text.strip() for text in texts}
    return {
        "facts": n,
        "to_own_target": sum(text == targets[fact_id].strip() for fact_id, text in found.items()) / max(1, n),
        "to_a_refusal": sum(text in known for text in found.values()) / max(1, n),
        "other_texts": [text for text in found.values() if text not in known][:5],
    }
