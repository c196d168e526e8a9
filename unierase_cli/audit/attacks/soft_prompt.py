"""A few free embeddings in front of every question, trained on the true answers of half of the facts; the others are asked.

No answer that is asked was ever a target, so what comes back was in the model: relearning with as few numbers as the embeddings
have. Our own proposal (spec: audit, section 5.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from unierase_cli.audit.asking import PromptOf, answers, fitting
from unierase_cli.audit.base import Case, Row, Target
from unierase_cli.audit.splits import halves
from unierase_cli.contracts import Fact, stable_hash

if TYPE_CHECKING:
    from torch import Tensor

    from unierase_cli.models.prompts import Prompt

CLASS, PRESET, VERSION = "embeddings", "thorough", 1
# tokens: how many embeddings; lr: of Adam.
SETTINGS: Mapping[str, Any] = {"tokens": 8, "steps": 300, "lr": 1e-3, "batch": 8}


def cases(settings: Mapping[str, Any]) -> Sequence[Case]:
    return [Case("one prompt, other groups")]


def run(target: Target, case: Case, settings: Mapping[str, Any]) -> Iterable[Row]:
    from unierase_cli.audit.soft_tokens import in_front, soft_ids, soft_tokens

    soft = soft_ids(target.loaded, 0, settings["tokens"])

    def prompt(fact: Fact) -> Prompt:
        return in_front(target.loaded, fact, soft)

    learned, asked = halves(fitting(target.facts, prompt), target.seed, "soft prompt")
    if not learned:
        target.reporter.warn(
            "soft_prompt is left out: the facts are of a single group, and there are no others to learn from"
        )
        return []
    vectors = _trained(target, learned, prompt, settings)
    with soft_tokens(target.loaded, vectors):
        return answers(target, asked, prompt=prompt, probability=True)


def _trained(target: Target, learned: Sequence[Fact], prompt: PromptOf, settings: Mapping[str, Any]) -> Tensor:
    import torch

    from unierase_cli.audit.soft_tokens import labelled, like_text, mean_losses, soft_tokens
    from unierase_cli.training.supervised import Example

    loaded = target.loaded
    examples = [Example(prompt(fact).ids, loaded.prompts.answer_ids(fact.answer, style=fact.kind)) for fact in learned]
    vectors = like_text(loaded, "!", settings["tokens"]).requires_grad_(True)
    optimizer = torch.optim.Adam([vectors], lr=settings["lr"])
    losses = []
    with soft_tokens(loaded, vectors), torch.enable_grad():
        for step in range(settings["steps"]):
            order = sorted(range(len(examples)), key=lambda place: stable_hash(target.seed, "soft prompt", step, place))
            loss = mean_losses(*labelled(loaded, [examples[place] for place in order[: settings["batch"]]])).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    target.reporter.note(
        f"soft_prompt: the loss on what it learns went from {losses[0]:.2f} to {losses[-1]:.2f} nats per token"
    )
    return vectors.detach()
