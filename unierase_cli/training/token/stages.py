"""The stages of a token's training: their shared inputs, the refusals that they settle on, and when a stage ends early."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from unierase_cli.config.sections.token import TokenConfig, TokenStage
from unierase_cli.contracts import Fact, Reporter, UserError, evenly_spaced
from unierase_cli.models.load import LoadedModel
from unierase_cli.training.token.checks import continuations
from unierase_cli.training.token.noise import Perturbation, gaussian
from unierase_cli.training.token.pairs import TokenExample, make_examples
from unierase_cli.training.token.prefix import Prefixes
from unierase_cli.training.token.row_fit import Leaves, Phase, fit_rows
from unierase_cli.training.token.row_start import publish
from unierase_cli.training.token.targets import choose_targets, listed_refusals, settle_targets

STATE = ".token-{purpose}-{number}.safetensors"


@dataclass
class Stages:
    """Inputs shared by the stages of one training."""

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
    # Questions on which stages with ``until`` are evaluated, and their tokens.
    looked_at: dict[Fact, int] = field(default_factory=dict)
    # Those of another training on the same weights.
    known: Prefixes | None = None

    @cached_property
    def prefixes(self) -> Prefixes:
        """The prefixes of this training's questions, each run once, whoever asks for it."""
        return self.known or Prefixes(self.loaded)

    def look_at(self, facts: Sequence[Fact], ids: Sequence[int]) -> None:
        """Evaluate on the given facts that fit the context; facts without a token of their own take the tokens in turn."""
        for n, fact in enumerate(facts):
            token = {fact: self.tokens.get(fact.id, ids[n % len(ids)])}
            # A question that is only evaluated must not stop the training.
            with suppress(UserError):
                for stage in self.config.stages:
                    self._to_look_at(token, stage.formats[-1])
                listed_refusals([fact], self.texts)
                self.looked_at |= token

    def _to_look_at(self, tokens: Mapping[Fact, int], style: str) -> list[TokenExample]:
        facts = list(tokens)
        targets, named = choose_targets(facts, self.texts, self.seed), {fact.id: token for fact, token in tokens.items()}
        return make_examples(self.loaded.prompts, facts, targets, named, style, self.config.closing)

    def examples(self, chosen: Mapping[str, str], style: str) -> list[TokenExample]:
        return make_examples(self.loaded.prompts, self.facts, chosen, self.tokens, style, self.config.closing)

    @cached_property
    def rate_unit(self) -> float:
        """The unit of learning rates: 1, or the root mean square of the model's embedding rows."""
        if self.config.lr_unit == "absolute":
            return 1.0
        known = len(self.loaded.tokenizer) - len(self.loaded.unlearn_ids)
        return float(self.loaded.architecture.embedding.weight.detach()[:known].float().square().mean().sqrt())

    def enough(self, share: float, style: str, leaves: Leaves) -> bool:
        """Whether ``share`` of the evaluated questions lead to a listed refusal with the current rows."""
        publish(self.loaded, leaves)
        examples = self._to_look_at(self.looked_at, style)
        lost = astray(self.loaded, examples, listed_refusals(list(self.looked_at), self.texts), self.prefixes)
        return len(examples) > 0 and len(examples) - len(lost) >= share * len(examples)

    def run(
        self, stages: Sequence[TokenStage], leaves: Leaves, chosen: dict[str, str]
    ) -> tuple[dict[str, str], list[dict[str, Any]]]:
        """Run the stages in order; with ``config.settle`` each but the very first retargets to refusals already reached.

        Each stage saves its own state, so an interrupted training skips finished stages.
        """
        told = []
        for number, stage in enumerate(stages, start=1):
            # A single refusal leaves nothing to choose.
            if self.config.settle and len(self.texts) > 1 and (number > 1 or self.purpose != "train"):
                publish(self.loaded, leaves)
                found = continuations(self.loaded, self.examples(chosen, stage.formats[-1]), self.prefixes)
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
                prefixes=self.prefixes,
            )
            told += [p.told(found) for p, found in zip(phases, losses, strict=True)]
        return chosen, told

    def phases(self, stage: TokenStage, number: int, chosen: Mapping[str, str], leaves: Leaves) -> list[Phase]:
        """A stage as phases with one optimiser each; noise on one layer after another makes one phase per layer."""
        examples = [example for style in stage.formats for example in self.examples(chosen, style)]
        size, tokens = self.config.batch_size, len(set(self.tokens.values()))
        steps = stage.steps(math.ceil(len(examples) / size), tokens)
        # With too few steps for all examples, take them evenly from the whole list.
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


def astray(
    loaded: LoadedModel,
    examples: Sequence[TokenExample],
    texts: Sequence[str],
    prefixes: Prefixes | None = None,
) -> set[str]:
    """Facts whose question plus [UNL] does not lead to a listed refusal, word for word."""
    listed = {text.strip() for text in texts}
    return {fact_id for fact_id, text in continuations(loaded, examples, prefixes).items() if text not in listed}
