"""Learning unlearning tokens: rows that lead from a question to a refusal (spec section 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unierase_cli.config.sections.token import TokenConfig, TokenStage
from unierase_cli.contracts import Fact, Reporter, UserError, stable_hash
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.token_rows import TokenRows
from unierase_cli.models.vocabulary import add_unlearning_tokens, get_rows, set_rows
from unierase_cli.training.noise import Perturbation, gaussian
from unierase_cli.training.pairs import TokenExample, assign_groups, make_examples
from unierase_cli.training.row_fit import Leaves, Phase, fit_rows
from unierase_cli.training.token_checks import measure_continuations, target_log_probs, warn_improbable
from unierase_cli.training.token_targets import choose_targets, load_targets

STATE = ".token-state.safetensors"


def train_token(
    loaded: LoadedModel,
    facts: Sequence[Fact],
    config: TokenConfig,
    *,
    layers: Sequence[int],
    seed: int,
    reporter: Reporter,
    checkpoint_dir: Path | None = None,
    targets: Mapping[str, str] | None = None,
    perturbation: Perturbation | None = None,
) -> TokenRows:
    """Add ``config.groups`` unlearning tokens to ``loaded`` and learn their rows on ``facts``; all other rows and weights keep
    their bits.

    ``layers``: those that get noise in stages with noise. ``targets`` (fact id -> refusal) and ``perturbation`` (layer, step
    -> [h, d]) stand in for the refusals of the configuration and for its Gaussian noise. ``checkpoint_dir``: where the fit
    is kept each epoch, so that an interrupted one goes on. A token that the tokenizer already knows starts from its rows.

    Raises UserError without facts, for a question that does not fit the context, and on a loss that is not a number.
    """
    if not facts:
        raise UserError("there is no question to train the token on", "check benchmark.split and token.questions")
    assignment = assign_groups(facts, config.groups)
    texts = load_targets(config) if targets is None else list(dict.fromkeys(targets.values()))
    chosen = dict(targets) if targets is not None else choose_targets(facts, texts, seed)
    in_use = list(dict.fromkeys(chosen[fact.id] for fact in facts))
    known = warn_improbable(target_log_probs(loaded, facts, in_use), config.improbable, reporter)
    names = [f"<unlearn_{group}>" for group in range(config.groups)]
    ids = start_rows(loaded, names, config, seed)
    tokens = {fact_id: ids[group] for fact_id, group in assignment.items()}
    examples = {
        style: make_examples(loaded.prompts, facts, chosen, tokens, style, config.closing)
        for style in dict.fromkeys(name for stage in config.stages for name in stage.formats)
    }
    phases = plan_phases(loaded, config.stages, examples, layers, seed, perturbation)
    leaves = _leaves(loaded, ids, config.output_row)
    state_file = None if checkpoint_dir is None else checkpoint_dir / STATE
    losses = fit_rows(loaded, leaves, phases, batch_size=config.batch_size, reporter=reporter, state_file=state_file)
    rows_in, rows_out = _publish(loaded, leaves)
    last = examples.get("chat") or next(iter(examples.values()))
    info: dict[str, Any] = {
        "closing": config.closing,
        "output_row": "tied head" if loaded.architecture.tied else config.output_row,
        "first_example": str(loaded.tokenizer.decode(last[0].ids)),
        "refusals_before": known,
        "phases": _told(phases, losses),
        "continuation": measure_continuations(loaded, last, chosen, texts),
        "row_norms": {
            "input": rows_in.norm(dim=1).tolist(),
            "output": [] if rows_out is None else rows_out.norm(dim=1).tolist(),
        },
    }
    _tell(info["continuation"], reporter)
    return TokenRows(names, ids, rows_in, rows_out, assignment, chosen, info)


def refine_token(
    loaded: LoadedModel,
    rows: TokenRows,
    facts: Sequence[Fact],
    config: TokenConfig,
    *,
    layers: Sequence[int],
    seed: int,
    reporter: Reporter,
    checkpoint_dir: Path | None = None,
) -> TokenRows:
    """Learn the input rows once more on an edited model (weights and rows as they are in ``loaded``), with the model's own
    prompt: ``config.refine_epochs``, ``refine_lr``, ``refine_noise`` (findings 5).

    Output rows stay, since the edit was computed for them. With a tied head the row has both roles: there the fit also
    asks for [UNL] as the first answer token, so that the edit's own effect is kept.
    """
    if not config.refine_epochs or not facts:
        return rows
    texts = load_targets(config)
    chosen = {**choose_targets(facts, texts, seed), **rows.targets}
    tokens = {fact.id: rows.token_of(fact.id) for fact in facts}
    examples = make_examples(loaded.prompts, facts, chosen, tokens, "chat", config.closing)
    stage = TokenStage(["chat"], config.refine_epochs, config.refine_lr, config.refine_noise)
    phases = plan_phases(loaded, [stage], {"chat": examples}, layers, seed, purpose="refine")
    leaves = Leaves(list(rows.ids), _leaf_rows(rows.rows_in.to(loaded.device)), hold=loaded.architecture.tied)
    if loaded.architecture.tied:
        leaves.rows_out = leaves.rows_in
    losses = fit_rows(
        loaded,
        leaves,
        phases,
        batch_size=config.batch_size,
        reporter=reporter,
        state_file=None if checkpoint_dir is None else checkpoint_dir / STATE,
    )
    before = measure_continuations(loaded, examples, chosen, texts)
    rows_in = torch.stack([leaf.detach() for leaf in leaves.rows_in]).cpu()
    set_rows(loaded, rows.ids, rows_in, None)
    after = measure_continuations(loaded, examples, chosen, texts)
    _tell(after, reporter)
    refined = {"phases": _told(phases, losses), "before": before, "continuation": after}
    return replace(rows, rows_in=rows_in, info={**rows.info, "refined": refined})


def start_rows(loaded: LoadedModel, names: Sequence[str], config: TokenConfig, seed: int) -> list[int]:
    """Add the tokens and set the rows that training starts from; returns their ids.

    Input rows: N(0, initializer_range) as the model draws its own, or the mean row plus a tenth of the rows' deviation.
    Output rows of an untied head, by ``config.output_row``: fresh and trained start from a random direction with
    ``fresh_norm`` times the mean row norm (findings 4); reference and tied from a copy of the input row.
    """
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
        rows_out = config.fresh_norm * norm * direction / direction.norm(dim=1, keepdim=True)
    elif rows_out is not None:
        rows_out = rows_in.clone()
    set_rows(loaded, ids, rows_in, rows_out)
    return ids


def plan_phases(
    loaded: LoadedModel,
    stages: Sequence[TokenStage],
    examples: Mapping[str, list[TokenExample]],
    layers: Sequence[int],
    seed: int,
    perturbation: Perturbation | None = None,
    purpose: str = "train",
) -> list[Phase]:
    """The stages as phases with an optimiser each: a stage with noise on one layer after another is a phase per layer."""
    phases = []
    for number, stage in enumerate(stages, start=1):
        used = [example for style in stage.formats for example in examples[style]]
        name = f"stage {number}"
        if not stage.noise:
            phases.append(Phase(name, used, stage.epochs, stage.lr))
            continue
        parts = [tuple(layers)] if stage.noise_layers == "all" else [(layer,) for layer in layers]
        for part in parts:
            title = name if len(parts) == 1 else f"{name} layer {part[0]}"
            noise = perturbation or gaussian(loaded.architecture, stage.noise, seed, f"{purpose} {title}")
            phases.append(Phase(title, used, stage.epochs, stage.lr, part, noise))
    return [phase for phase in phases if phase.epochs]


def _leaves(loaded: LoadedModel, ids: list[int], output_row: str) -> Leaves:
    """Leaves at the rows that the model has now. One row plays both roles for a tied head and for output_row=tied."""
    rows_in, rows_out = get_rows(loaded, ids)
    leaves = Leaves(ids, _leaf_rows(rows_in))
    if loaded.architecture.tied or output_row == "tied":
        leaves.rows_out = leaves.rows_in
    elif output_row == "trained" and rows_out is not None:
        leaves.rows_out = _leaf_rows(rows_out)
    return leaves


def _leaf_rows(rows: Tensor) -> list[Tensor]:
    return [row.detach().float().clone().requires_grad_(True) for row in rows]


def _publish(loaded: LoadedModel, leaves: Leaves) -> tuple[Tensor, Tensor | None]:
    """Write the learned rows into the model; returns them in float32 on the CPU (output rows None for a tied head)."""
    rows_in = torch.stack([leaf.detach() for leaf in leaves.rows_in]).cpu()
    _, kept = get_rows(loaded, leaves.ids)
    learned = leaves.rows_out
    rows_out = (
        None if kept is None else kept.cpu() if learned is None else torch.stack([r.detach() for r in learned]).cpu()
    )
    set_rows(loaded, leaves.ids, rows_in, rows_out)
    return rows_in, rows_out


def _told(phases: Sequence[Phase], losses: Sequence[Sequence[float]]) -> list[dict[str, Any]]:
    return [
        {
            "name": p.name,
            "examples": len(p.examples),
            "epochs": p.epochs,
            "lr": p.lr,
            "noisy_layers": list(p.noisy),
            "losses": list(found),
        }
        for p, found in zip(phases, losses, strict=True)
    ]


def _tell(found: Mapping[str, Any], reporter: Reporter) -> None:
    share = 100 * found["to_a_refusal"]
    reporter.note(
        f"question + [UNL] leads to a listed refusal, word for word, on {share:.1f} % of {found['facts']} facts"
    )
