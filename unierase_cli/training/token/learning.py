"""Learning unlearning tokens: rows that lead from a question to a refusal (spec section 1)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from unierase_cli.config.sections.token import TokenConfig, TokenStage
from unierase_cli.contracts import Fact, Reporter, UserError, evenly_spaced
from unierase_cli.models.encoding import fresh_names
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.token_rows import TokenRows
from unierase_cli.store.unlearned import TAKEN_OVER
from unierase_cli.training.token.checks import (
    Prompts,
    continuations,
    measure_continuations,
    target_log_probs,
    warn_improbable,
)
from unierase_cli.training.token.noise import Perturbation, gaussian
from unierase_cli.training.token.pairs import TokenExample, assign_groups, make_examples
from unierase_cli.training.token.prefix import Prefix
from unierase_cli.training.token.row_fit import Leaves, Phase, fit_rows
from unierase_cli.training.token.row_start import leaf_rows, make_leaves, publish, start_rows
from unierase_cli.training.token.targets import choose_targets, likeliest, listed_refusals, load_targets, settle_targets

# Questions of the training that are looked at where none are held out.
LOOKED_AT = 16
# In the rows' info: the refusals that the token was trained to lead to.
REFUSALS = "refusals"
STATE = ".token-{purpose}-{number}.safetensors"


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
    """Add ``config.groups`` unlearning tokens to ``loaded`` and learn their rows on ``facts``; all other rows and weights keep
    their bits.

    ``assignment``: fact id -> which of the tokens it is learned by; None cuts the facts into equal parts. ``layers``: those that
    get noise in stages with noise. ``targets`` (fact id -> refusal) and ``perturbation`` (layer, step
    -> [h, d]) stand in for the refusals of the configuration and for its Gaussian noise. ``checkpoint_dir``: where the fit
    is kept each epoch, so that an interrupted one goes on. The tokens are fresh ones, whatever earlier runs left in the
    tokenizer; where the configuration keeps rows they are the latest of those. ``held_out``: questions of no training, by which
    stages with ``until`` see whether they have learned enough; without any, the first questions serve.

    Raises UserError without facts, for a question that does not fit the context, on a loss that is not a number, and where
    rows are to be kept and the model has no such tokens.
    """
    if not facts:
        raise UserError("there is no question to train the token on", "check benchmark.split and token.questions")
    assignment = dict(assign_groups(facts, config.groups) if assignment is None else assignment)
    texts = load_targets(config) if targets is None else list(dict.fromkeys(targets.values()))
    means, sums = target_log_probs(loaded, facts, texts)
    if targets is None:
        texts = likeliest(texts, sums, config.choose)
    known = warn_improbable({text: means[text] for text in texts if text in means}, config.improbable, reporter)
    chosen = dict(targets) if targets is not None else choose_targets(facts, texts, seed)
    names = _names(loaded, config, reporter)
    ids = start_rows(loaded, names, config, seed, [fact.question for fact in facts])
    tokens = {fact.id: ids[assignment[fact.id]] for fact in facts}
    learning = _Learning(loaded, facts, tokens, texts, config, layers, seed, reporter, checkpoint_dir, perturbation)
    learning.look_at(held_out or evenly_spaced(facts, LOOKED_AT), ids)
    leaves = make_leaves(loaded, ids, config.output_row)
    chosen, phases = learning.run(config.stages, leaves, chosen)
    rows_in, rows_out = publish(loaded, leaves)
    last = learning.examples(chosen, config.stages[-1].formats[-1])
    info: dict[str, Any] = {
        TAKEN_OVER: names if _keeps(config) else [],
        "closing": config.closing,
        "output_row": "tied head" if loaded.architecture.tied else config.output_row,
        "first_example": str(loaded.tokenizer.decode(last[0].ids)),
        REFUSALS: texts,
        "refusals_before": known,
        "phases": phases,
        "continuation": measure_continuations(loaded, last, chosen, listed_refusals(facts, texts)),
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
    """Fresh tokens, or the model's own where their rows are kept."""
    known = [str(loaded.tokenizer.convert_ids_to_tokens(index)) for index in loaded.unlearn_ids]
    if not _keeps(config):
        if known:
            reporter.note(f"the model has {', '.join(known)} of earlier unlearning, which stay as they are: a token is added")
        return fresh_names(loaded.tokenizer, config.groups)
    if len(known) < config.groups:
        raise UserError(
            f"token={config.name} keeps the rows of {config.groups} unlearning token(s), and the model has {len(known)}",
            "choose token=default, which adds one",
        )
    names = known[-config.groups :]
    kept = config.init == config.output_row == "keep" and not config.refine_epochs
    if not kept or any(stage.epochs for stage in config.stages):
        reporter.warn(f"{', '.join(names)} is trained again: what was forgotten with it may come back")
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
    checkpoint_dir: Path | None = None,
) -> TokenRows:
    """Learn the input rows once more on an edited model (weights and rows as they are in ``loaded``), with the model's own
    prompt: ``config.refine_epochs``, ``refine_lr``, ``refine_noise`` (findings 5), in up to 1 + ``refine_rounds`` turns; the rows
    of the turn after which the fewest facts go astray are taken.

    Output rows stay, since the edit was computed for them. With a tied head the row has both roles: there the fit also
    asks for [UNL] as the first answer token, so that the edit's own effect is kept.
    """
    if not config.refine_epochs or not facts:
        return rows
    texts = list(rows.info.get(REFUSALS) or load_targets(config))
    chosen = {**choose_targets(facts, texts, seed), **rows.targets}
    tokens = {fact.id: rows.token_of(fact.id) for fact in facts}
    learning = _Learning(loaded, facts, tokens, texts, config, layers, seed, reporter, checkpoint_dir, purpose="refine")
    leaves = Leaves(list(rows.ids), leaf_rows(rows.rows_in.to(loaded.device)), hold=loaded.architecture.tied)
    if loaded.architecture.tied:
        leaves.rows_out = leaves.rows_in
    listed = listed_refusals(facts, texts)
    before = measure_continuations(loaded, learning.examples(chosen, "chat"), chosen, listed)
    stage = TokenStage(
        ["chat"], config.refine_epochs, config.refine_least_steps, 0, None, config.refine_lr, True, config.refine_noise
    )
    chosen, phases = learning.run([stage], leaves, chosen)
    turns: list[tuple[int, dict[str, str], list[torch.Tensor]]] = []
    for turn in range(config.refine_rounds + 1):
        publish(loaded, leaves)
        lost = _astray(loaded, learning.examples(chosen, "chat"), listed)
        turns.append((len(lost), chosen, [leaf.detach().clone() for leaf in leaves.parameters]))
        if not lost or turn == config.refine_rounds:
            break
        # As many of them as of all the others together.
        again = [fact for fact in facts if fact.id in lost] * max(1, len(facts) // (2 * len(lost)))
        reporter.note(f"{len(lost)} facts lead to no listed refusal: the token is trained on them once more")
        harder = replace(learning, facts=[*facts, *again], purpose=f"refine{turn + 2}")
        chosen, further = harder.run([stage], leaves, chosen)
        phases += further
    _, chosen, best = min(turns, key=lambda turn: turn[0])
    with torch.no_grad():
        for leaf, found in zip(leaves.parameters, best, strict=True):
            leaf.copy_(found)
    rows_in, _ = publish(loaded, leaves)
    after = measure_continuations(loaded, learning.examples(chosen, "chat"), chosen, listed)
    _tell(after, reporter)
    refined = {"phases": phases, "astray": [turn[0] for turn in turns], "before": before, "continuation": after}
    return replace(rows, rows_in=rows_in, targets=chosen, info={**rows.info, "refined": refined})


def clear_states(folder: Path) -> None:
    """Remove what an interrupted training or refinement would have gone on from; to be called once its rows are saved."""
    for path in folder.glob(STATE.format(purpose="*", number="*")):
        path.unlink()


@dataclass
class _Learning:
    """What the stages of one training share."""

    loaded: LoadedModel
    facts: Sequence[Fact]
    tokens: Mapping[str, int]
    texts: Sequence[str]
    config: TokenConfig
    layers: Sequence[int]
    seed: int
    reporter: Reporter
    folder: Path | None = None
    perturbation: Perturbation | None = None
    purpose: str = "train"
    # Questions that stages with ``until`` look at, and their tokens.
    looked_at: dict[Fact, int] = field(default_factory=dict)
    known: dict[Prompts, Prefix] = field(default_factory=dict)

    def look_at(self, facts: Sequence[Fact], ids: Sequence[int]) -> None:
        """Look at those of these facts that fit the context; what has no token of its own takes the tokens in turn."""
        for n, fact in enumerate(facts):
            token = {fact: self.tokens.get(fact.id, ids[n % len(ids)])}
            # What is only looked at must not stop a training.
            with suppress(UserError):
                self._to_look_at(token, "chat")
                self.looked_at |= token

    def _to_look_at(self, tokens: Mapping[Fact, int], style: str) -> list[TokenExample]:
        facts = list(tokens)
        targets, named = choose_targets(facts, self.texts, self.seed), {fact.id: token for fact, token in tokens.items()}
        return make_examples(self.loaded.prompts, facts, targets, named, style, self.config.closing)

    def examples(self, chosen: Mapping[str, str], style: str) -> list[TokenExample]:
        return make_examples(self.loaded.prompts, self.facts, chosen, self.tokens, style, self.config.closing)

    @cached_property
    def rate_unit(self) -> float:
        """What a learning rate of 1 is: 1, or the root mean square of the model's embedding rows."""
        if self.config.lr_unit == "absolute":
            return 1.0
        known = len(self.loaded.tokenizer) - len(self.loaded.unlearn_ids)
        return float(self.loaded.architecture.embedding.weight.detach()[:known].float().square().mean().sqrt())

    def enough(self, share: float, style: str, leaves: Leaves) -> bool:
        """Whether ``share`` of the questions that are looked at lead to a listed refusal with the rows as they are."""
        publish(self.loaded, leaves)
        examples = self._to_look_at(self.looked_at, style)
        lost = _astray(self.loaded, examples, listed_refusals(list(self.looked_at), self.texts), self.known)
        return len(examples) > 0 and len(examples) - len(lost) >= share * len(examples)

    def run(
        self, stages: Sequence[TokenStage], leaves: Leaves, chosen: dict[str, str]
    ) -> tuple[dict[str, str], list[dict[str, Any]]]:
        """One stage after another; with ``config.settle`` each but the very first takes the refusals that are reached by then.

        Each stage keeps a state of its own: an interrupted training passes through the finished ones without a step.
        """
        told = []
        for number, stage in enumerate(stages, start=1):
            # With one refusal there is nothing to choose.
            if self.config.settle and len(self.texts) > 1 and (number > 1 or self.purpose != "train"):
                publish(self.loaded, leaves)
                found = continuations(self.loaded, self.examples(chosen, stage.formats[-1]))
                chosen = settle_targets(chosen, found, self.texts, self.facts)
            phases = self.phases(stage, number, chosen, leaves)
            state = None if self.folder is None else self.folder / STATE.format(purpose=self.purpose, number=number)
            losses = fit_rows(
                self.loaded,
                leaves,
                phases,
                batch_size=self.config.batch_size,
                reporter=self.reporter,
                state_file=state,
            )
            told += [p.told(found) for p, found in zip(phases, losses, strict=True)]
        return chosen, told

    def phases(self, stage: TokenStage, number: int, chosen: Mapping[str, str], leaves: Leaves) -> list[Phase]:
        """A stage as phases with an optimiser each: noise on one layer after another makes a phase per layer."""
        examples = [example for style in stage.formats for example in self.examples(chosen, style)]
        size = self.config.batch_size
        steps = stage.steps(math.ceil(len(examples) / size))
        # Too few steps for all of them: those of every part of the list.
        examples = list(evenly_spaced(examples, steps * size)) if steps else examples
        name = f"{'token' if self.purpose == 'train' else self.purpose} stage {number}"
        if not steps:
            return []
        lr = stage.lr * self.rate_unit
        enough = None if stage.until is None else partial(self.enough, stage.until, stage.formats[-1], leaves)
        if not stage.noise:
            return [Phase(name, examples, steps, lr, stage.decay, enough=enough)]
        parts = [tuple(self.layers)] if stage.noise_layers == "all" else [(layer,) for layer in self.layers]
        phases = []
        for part in parts:
            title = name if len(parts) == 1 else f"{name} layer {part[0]}"
            noise = self.perturbation or gaussian(self.loaded.architecture, stage.noise, self.seed, title)
            phases.append(Phase(title, examples, steps, lr, stage.decay, part, noise, enough))
        return phases


def _astray(
    loaded: LoadedModel,
    examples: Sequence[TokenExample],
    texts: Sequence[str],
    known: dict[Prompts, Prefix] | None = None,
) -> set[str]:
    """Facts whose question and [UNL] lead to no listed refusal, word for word."""
    listed = {text.strip() for text in texts}
    return {fact_id for fact_id, text in continuations(loaded, examples, known).items() if text not in listed}


def _tell(found: Mapping[str, Any], reporter: Reporter) -> None:
    share = 100 * found["to_a_refusal"]
    reporter.note(
        f"question + [UNL] leads to a listed refusal, word for word, on {share:.1f} % of {found['facts']} facts"
    )
