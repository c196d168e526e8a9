"""Rows of unlearning tokens as leaves: their initial values, which of them are trained, and writing them back to the model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import normalize

from unierase_cli.config.sections.token import TokenConfig
from unierase_cli.contracts import Fact, UserError, evenly_spaced, stable_hash
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.vocabulary import add_unlearning_tokens, get_bias, get_rows, set_rows
from unierase_cli.training.token.prefix import run_prefix
from unierase_cli.training.token.row_fit import Leaves

# Batch size in questions for the mean state.
BATCH = 32
# Questions whose prompts keep their logits of the tokens, at most; directions below this share of the largest are rounding.
MOST_KEPT, NEGLIGIBLE = 128, 1e-5
# Largest allowed cosine between a row and the mean state.
LARGEST_COSINE = 0.9
# If the mean logit is farther from 0 than this share of the gap between largest and mean logit, lifts count from the mean logit.
OFF_CENTRE = 0.1


def start_rows(
    loaded: LoadedModel, names: Sequence[str], config: TokenConfig, seed: int, facts: Sequence[Fact] = ()
) -> list[int]:
    """Add the tokens and set the rows that training starts from; returns their ids.

    Input rows: N(0, initializer_range) as the model initialises its own, or the mean row plus a tenth of the rows' deviation.
    Output rows of an untied head, by ``config.output_row``: fresh and trained start from a random direction with
    ``fresh_norm`` times the mean row norm (findings 4). A fresh row also gets a mean logit of ``fresh_lift`` times the mean
    largest logit at the ends of the facts' prompts, measured from the mean logit if that is far from 0. Reference and tied start
    from a copy of the input row. ``keep`` leaves the rows of existing tokens unchanged and raises UserError if one is missing.
    """
    known = loaded.tokenizer.get_vocab()
    missing = [name for name in names if name not in known]
    if missing and "keep" in (config.init, config.output_row):
        raise UserError(f"the model has no token {missing[0]} whose row could be kept", "choose token=default")
    generator = torch.Generator().manual_seed(stable_hash(seed, "unlearning rows"))
    architecture, vocabulary = loaded.architecture, len(loaded.tokenizer)
    ids = add_unlearning_tokens(loaded, names, generator)
    rows_in, rows_out = get_rows(loaded, ids)
    if config.init == "mean":
        rows = architecture.embedding.weight.detach()[:vocabulary].float()
        noise = torch.randn(rows_in.shape, generator=generator).to(rows.device)
        rows_in = rows.mean(0) + 0.1 * rows.std(0) * noise
    if rows_out is not None and config.output_row in ("fresh", "trained"):
        norm = architecture.head.weight.detach()[:vocabulary].float().norm(dim=1).mean()
        direction = torch.randn(rows_out.shape, generator=generator).to(norm.device)
        rows_out = config.fresh_norm * norm * normalize(direction, dim=1)
        if config.output_row == "fresh" and config.fresh_lift is not None:
            mean, usual, largest = ends_of(loaded, facts, ids)
            origin = usual if abs(usual) > OFF_CENTRE * (largest - usual) else 0.0
            wanted = torch.full([len(ids)], origin + config.fresh_lift * (largest - origin))
            bias = get_bias(loaded, ids)
            rows_out = lifted(rows_out, mean, wanted if bias is None else wanted - bias.cpu())
    elif rows_out is not None and config.output_row != "keep":
        rows_out = rows_in.clone()
    set_rows(loaded, ids, rows_in, rows_out)
    return ids


def ends_of(loaded: LoadedModel, facts: Sequence[Fact], ids: Sequence[int]) -> tuple[Tensor, float, float]:
    """Means over the ends of the facts' prompts: of the head's input, float32 [h]; of all tokens' logits; of the largest
    logit. Logits are the head's own, before the model's scale and cap, and exclude the tokens ``ids``.

    Raises UserError without facts.
    """
    if not facts:
        raise UserError("token.fresh_lift needs questions", "check benchmark.split, or give token.fresh_lift=null")
    prefixes = [loaded.prompts.prompt(fact.question, fact.kind).ids for fact in facts]
    counted = torch.ones(loaded.architecture.head.weight.shape[0], dtype=torch.bool)
    counted[len(loaded.tokenizer) :] = False
    counted[list(ids)] = False
    counted = counted.to(loaded.architecture.head.weight.device)
    states, usual, largest = [], [], []
    for start in range(0, len(prefixes), BATCH):
        batch = prefixes[start : start + BATCH]
        for _, prefix in loaded.room.parts("questions to lean towards", batch, partial(run_prefix, loaded)):
            logits = loaded.architecture.head(prefix.last)[:, counted].float()
            states.append(prefix.last.float())
            usual.append(logits.mean(-1))
            largest.append(logits.amax(-1))
    return torch.cat(states).mean(0), float(torch.cat(usual).mean()), float(torch.cat(largest).mean())


def kept_directions(loaded: LoadedModel, facts: Sequence[Fact]) -> Tensor | None:
    """Orthonormal rows [r, h], float32, that span the head's input at the ends of the facts' prompts; None without facts.

    Uses at most a quarter of h of the facts, so that most directions stay free. Raises UserError if a state is not finite.
    """
    chosen = evenly_spaced(facts, min(MOST_KEPT, loaded.architecture.hidden_size // 4))
    prompts = [loaded.prompts.prompt(fact.question, fact.kind).ids for fact in chosen]
    states = [
        prefix.last.float()
        for start in range(0, len(prompts), BATCH)
        for _, prefix in loaded.room.parts("questions to keep", prompts[start : start + BATCH], partial(run_prefix, loaded))
    ]
    if not states:
        return None
    ends = torch.cat(states)
    if not torch.isfinite(ends).all():
        raise UserError(
            "the edited model's states are not finite at the ends of protected questions",
            "lower edit.values.clamp, or load the model in float32",
        )
    _, sizes, directions = torch.linalg.svd(ends.cpu(), full_matrices=False)
    return directions[sizes > sizes[0] * NEGLIGIBLE].to(loaded.device)


def lifted(rows: Tensor, mean: Tensor, wanted: Tensor) -> Tensor:
    """Rows [g, h] rotated in the planes that they span with ``mean`` [h] until their dot product with it is ``wanted`` [g].

    The cosine is limited to ``LARGEST_COSINE``; norms stay.
    """
    mean, wanted, norms = mean.to(rows.device), wanted.to(rows.device)[:, None], rows.norm(dim=1, keepdim=True)
    along = normalize(mean, dim=0)
    across = normalize(rows - (rows @ along).outer(along), dim=1)
    cosine = (wanted / (norms * mean.norm())).clamp(-LARGEST_COSINE, LARGEST_COSINE)
    return norms * (cosine * along + (1 - cosine**2).sqrt() * across)


def make_leaves(loaded: LoadedModel, ids: list[int], output_row: str) -> Leaves:
    """Leaves that start at the model's current rows. A tied head or output_row=tied uses one row for both roles."""
    rows_in, rows_out = get_rows(loaded, ids)
    leaves = Leaves(ids, leaf_rows(rows_in))
    if loaded.architecture.tied or output_row == "tied":
        leaves.rows_out = leaves.rows_in
    elif output_row == "trained" and rows_out is not None:
        leaves.rows_out = leaf_rows(rows_out)
    return leaves


def leaf_rows(rows: Tensor) -> list[Tensor]:
    """Rows [g, h] as g float32 leaves [h]."""
    return [row.detach().float().clone().requires_grad_(True) for row in rows]


def publish(loaded: LoadedModel, leaves: Leaves) -> tuple[Tensor, Tensor | None]:
    """Write the learned rows into the model; returns them in float32 on the CPU (output rows: None for a tied head)."""
    rows_in = torch.stack([leaf.detach() for leaf in leaves.rows_in]).cpu()
    _, kept = get_rows(loaded, leaves.ids)
    learned = leaves.rows_out
    rows_out = (
        None if kept is None else kept.cpu() if learned is None else torch.stack([r.detach() for r in learned]).cpu()
    )
    set_rows(loaded, leaves.ids, rows_in, rows_out)
    return rows_in, rows_out
