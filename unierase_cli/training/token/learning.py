"""Learns unlearning tokens: rows that lead from a question to a refusal (spec section 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from unierase_cli.config.sections.token import TokenConfig, TokenStage
from unierase_cli.contracts import Fact, Reporter, UserError, evenly_spaced
from unierase_cli.models.encoding import fresh_names
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.token_rows import TokenRows
from unierase_cli.store.unlearned import TAKEN_OVER
from unierase_cli.training.token.checks import measure_continuations, warn_improbable
from unierase_cli.training.token.guard import Given, Guard
from unierase_cli.training.token.noise import Perturbation
from unierase_cli.training.token.pairs import assign_groups
from unierase_cli.training.token.refusal_scores import target_log_probs
from unierase_cli.training.token.row_fit import Leaves
from unierase_cli.training.token.row_start import kept_directions, leaf_rows, make_leaves, publish, start_rows
from unierase_cli.training.token.stages import STATE, Stages, astray
from unierase_cli.training.token.targets import (
    REFUSALS,
    choose_targets,
    known_targets,
    likeliest,
    listed_refusals,
    load_targets,
)

# Training questions used for evaluation if none are held out.
LOOKED_AT = 16
# Share of facts that a trained token leads to a refusal, below which a warning says what follows it.
LEADS = 0.5
# Nats per answer to keep that a refined row may take before a warning.
TAKES_MUCH = 0.1


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
    assignment: Mapping[str, int] | None = None,
    held_out: Sequence[Fact] = (),
) -> TokenRows:
    """Add ``config.groups`` unlearning tokens to ``loaded`` and learn their rows on ``facts``; all other rows and weights stay
    bit-identical.

    ``assignment``: fact id -> index of its token; None splits the facts into equal parts. ``layers``: layers that get noise in
    stages with noise. ``targets`` (fact id -> refusal) and ``perturbation`` (layer, step -> [h, d]) replace the configured
    refusals and Gaussian noise. ``checkpoint_dir``: folder for the state of each epoch, from which an interrupted training
    resumes. The tokens are new, whatever earlier runs left in the tokenizer; if the configuration keeps rows, they are the latest
    existing ones. ``held_out``: questions outside the training, on which stages with ``until`` measure success; if empty, some
    of ``facts`` are used.

    Raises UserError without facts, for a question that does not fit the context, for a loss that is not finite, and if rows are
    to be kept but the model has no such tokens.
    """
    if not facts:
        raise UserError("there is no question to train the token on", "check benchmark.split and token.questions")
    assignment = dict(assign_groups(facts, config.groups) if assignment is None else assignment)
    texts = load_targets(config) if targets is None else list(dict.fromkeys(targets.values()))
    means, sums = target_log_probs(loaded, facts, texts, config.choose if targets is None else 0)
    if targets is None:
        texts = likeliest(texts, sums, config.choose)
    known = warn_improbable({text: means[text] for text in texts if text in means}, config.improbable, reporter)
    chosen = dict(targets) if targets is not None else choose_targets(facts, texts, seed)
    names = _names(loaded, config, reporter)
    ids = start_rows(loaded, names, config, seed, facts)
    tokens = {fact.id: ids[assignment[fact.id]] for fact in facts}
    stages = Stages(loaded, facts, tokens, texts, config, layers, seed, reporter, checkpoint_dir, perturbation)
    stages.look_at(held_out or evenly_spaced(facts, max(LOOKED_AT, len(ids))), ids)
    leaves = make_leaves(loaded, ids, config.output_row)
    chosen, phases = stages.run(config.stages, leaves, chosen)
    rows_in, rows_out = publish(loaded, leaves)
    last = stages.examples(chosen, config.stages[-1].formats[-1])
    info: dict[str, Any] = {
        TAKEN_OVER: names if _keeps(config) else [],
        "closing": config.closing,
        "output_row": "tied head" if loaded.architecture.tied else config.output_row,
        "first_example": str(loaded.tokenizer.decode(last[0].ids)),
        REFUSALS: texts,
        "refusals_before": known,
        "phases": phases,
        "continuation": measure_continuations(loaded, last, chosen, listed_refusals(facts, texts), stages.prefixes),
        "row_norms": {
            "input": rows_in.norm(dim=1).tolist(),
            "output": [] if rows_out is None else rows_out.norm(dim=1).tolist(),
        },
    }
    _tell(info["continuation"], reporter)
    return TokenRows(names, ids, rows_in, rows_out, assignment, chosen, info)


def _keeps(config: TokenConfig) -> bool:
    return "keep" in (config.init, config.output_row)


def _names(loaded: LoadedModel, config: TokenConfig, reporter: Reporter) -> list[str]:
    """Names of new tokens, or of the model's own if their rows are kept."""
    known = [str(loaded.tokenizer.convert_ids_to_tokens(index)) for index in loaded.unlearn_ids]
    if not _keeps(config):
        if known:
            reporter.note(f"the model keeps {', '.join(known)} of earlier unlearning unchanged; a new token is added")
        return fresh_names(loaded.tokenizer, config.groups)
    if len(known) < config.groups:
        raise UserError(
            f"token={config.name} keeps the rows of {config.groups} unlearning token(s), and the model has {len(known)}",
            "choose token=default, which adds one",
        )
    names = known[-config.groups :]
    kept = config.init == config.output_row == "keep" and not config.refine_epochs
    if not kept or any(stage.epochs for stage in config.stages):
        reporter.warn(f"{', '.join(names)} is trained again: facts forgotten with it may come back")
    return names


def refine_token(
    loaded: LoadedModel,
    rows: TokenRows,
    facts: Sequence[Fact],
    config: TokenConfig,
    *,
    layers: Sequence[int],
    seed: int,
    reporter: Reporter,
    protected: Sequence[Fact] = (),
    answers: Sequence[Given] = (),
    checkpoint_dir: Path | None = None,
) -> TokenRows:
    """Train the input rows again on an edited model (the weights and rows now in ``loaded``), with the model's own prompt.

    Uses ``config.refine_epochs``, ``refine_lr`` and ``refine_noise`` (findings 5) in up to 1 + ``refine_rounds`` turns, and
    returns the rows of the turn after which the most facts lead to a listed refusal.

    Output rows stay, since the edit was computed for them. With a tied head each row has both roles; the fit then also asks
    for [UNL] as the first answer token, so that the edit keeps its effect, and leaves [UNL]'s logits unchanged at the ends
    of some ``protected`` questions (``kept_directions``), and improbable within some ``answers`` to keep (``config.refine_guard``).
    Otherwise [UNL] becomes likelier after every question, and within every answer.
    """
    if not config.refine_epochs or not facts:
        return rows
    texts, chosen = known_targets(rows, facts, load_targets(config), seed)
    tokens = {fact.id: rows.token_of(fact.id) for fact in facts}
    stages = Stages(loaded, facts, tokens, texts, config, layers, seed, reporter, checkpoint_dir, purpose="refine")
    leaves = Leaves(list(rows.ids), leaf_rows(rows.rows_in.to(loaded.device)), hold=loaded.architecture.tied)
    guard: Guard | None = None
    if loaded.architecture.tied:
        leaves.rows_out = leaves.rows_in
        leaves.kept = kept_directions(loaded, protected)
        if answers and config.refine_guard:
            leaves.guard = guard = Guard(loaded, rows.ids, answers, config.refine_guard)
    listed = listed_refusals(facts, texts)
    before = measure_continuations(loaded, stages.examples(chosen, "chat"), chosen, listed, stages.prefixes)
    stage = TokenStage(
        ["chat"], config.refine_epochs, config.refine_least_steps, 0, None, config.refine_lr, True, config.refine_noise
    )
    chosen, phases = stages.run([stage], leaves, chosen)
    turns: list[tuple[int, dict[str, str], list[torch.Tensor]]] = []
    for turn in range(config.refine_rounds + 1):
        publish(loaded, leaves)
        lost = astray(loaded, stages.examples(chosen, "chat"), listed, stages.prefixes)
        turns.append((len(lost), chosen, [leaf.detach().clone() for leaf in leaves.parameters]))
        if not lost or turn == config.refine_rounds:
            break
        # Repeat them until they weigh as much as all other facts together.
        again = [fact for fact in facts if fact.id in lost] * max(1, len(facts) // (2 * len(lost)))
        reporter.note(f"{len(lost)} facts lead to no listed refusal: the token is trained on them again")
        harder = replace(stages, facts=[*facts, *again], purpose=f"refine{turn + 2}", known=stages.prefixes)
        chosen, further = harder.run([stage], leaves, chosen)
        phases += further
    _, chosen, best = min(turns, key=lambda turn: turn[0])
    with torch.no_grad():
        for leaf, found in zip(leaves.parameters, best, strict=True):
            leaf.copy_(found)
    rows_in, _ = publish(loaded, leaves)
    after = measure_continuations(loaded, stages.examples(chosen, "chat"), chosen, listed, stages.prefixes)
    _tell(after, reporter)
    refined = {"phases": phases, "astray": [turn[0] for turn in turns], "before": before, "continuation": after}
    if guard is not None:
        refined["taken"] = taken = float(guard.taken(rows_in))
        told = f"[UNL] takes {taken:.3f} nats from each of the answers to keep"
        if taken > TAKES_MUCH:
            reporter.warn(f"{told}: it may come up within other answers; raise token.refine_guard or edit.values.clamp")
        else:
            reporter.note(told)
    return replace(rows, rows_in=rows_in, targets=chosen, info={**rows.info, "refined": refined})


def clear_states(folder: Path) -> None:
    """Remove the states of an interrupted training or refinement; call this once the rows are saved."""
    for path in folder.glob(STATE.format(purpose="*", number="*")):
        path.unlink()


def _tell(found: Mapping[str, Any], reporter: Reporter) -> None:
    share = found["to_a_refusal"]
    told = f"question + [UNL] leads to a listed refusal, word for word, on {100 * share:.1f} % of {found['facts']} facts"
    if share >= LEADS:
        reporter.note(told)
        return
    reporter.warn(
        f"{told}; after an edit, broken text would follow [UNL] in the others. Choose refusals that the model gives "
        "(token.targets, token.choose=1); a model of the finetune stage needs about ten refused questions for each "
        "(benchmark.unknown_people)"
    )
