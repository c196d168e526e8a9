"""Log-probabilities of refusals under the unedited model, from which the token's targets are chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch

from unierase_cli.contracts import Fact, UserError, fill_name
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.partial import length_sorted_batches, pad_sequences
from unierase_cli.sizes import REFUSAL_TOKENS
from unierase_cli.training.token.prefix import Prefix, run_prefix, run_suffix

# Questions per refusal.
QUESTIONS = 3


@dataclass
class Scores:
    """Per refusal: summed log-probability (nats), tokens summed, and questions asked."""

    sums: dict[str, float] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    questions: dict[str, int] = field(default_factory=dict)


@torch.no_grad()
def target_log_probs(
    loaded: LoadedModel, facts: Sequence[Fact], texts: Sequence[str], most: int = 0
) -> tuple[dict[str, float], dict[str, float]]:
    """Refusal -> log-probability (nats, end token included) as the answer to a few questions: the mean per token, and the sum.

    The first token is left out: any refusal starts improbably after a question whose answer the model knows, and [UNL] takes
    over that start. The tokens after it show whether the model knows the sentence. Refusals that do not fit the context are
    skipped. ``most``: only the refusals with this many largest sums are wanted, so those that the first question already rules
    out are left out; 0 scores all.
    """
    asked = [facts[(2 * i + 1) * len(facts) // (2 * QUESTIONS)] for i in range(QUESTIONS)] if facts else []
    questions = [fact for fact in dict.fromkeys(asked) if _fits(loaded, fact)]
    scores, left = Scores(), list(texts)
    if most and len(texts) > most and len(questions) > 1:
        _score(loaded, questions[:1], texts, scores)
        best = sorted(scores.sums, key=lambda text: -scores.sums[text])[:most]
        _score(loaded, questions[1:], best, scores)
        # Further questions only lower a sum: what is already too low for the mean over all of them stays too low.
        least = min((scores.sums[text] / scores.questions[text] for text in best), default=0.0) * len(questions)
        left = [text for text in texts if text not in best and scores.sums.get(text, -math.inf) >= least]
        _score(loaded, questions[1:], left, scores)
        left = [text for text in texts if text in best or text in left]
    else:
        _score(loaded, questions, texts, scores)
    found = [text for text in left if text in scores.sums]
    means = {text: scores.sums[text] / scores.tokens[text] for text in found}
    return means, {text: scores.sums[text] / scores.questions[text] for text in found}


def _fits(loaded: LoadedModel, fact: Fact) -> bool:
    try:
        loaded.prompts.prompt(fact.question, fact.kind)
    except UserError:
        return False
    return True


def _score(loaded: LoadedModel, facts: Sequence[Fact], texts: Sequence[str], scores: Scores) -> None:
    """Add the refusals' log-probabilities as answers to these questions."""
    prompts = loaded.prompts
    for fact in facts if texts else ():
        prompt = prompts.prompt(fact.question, fact.kind).ids
        answers = {text: prompts.answer_ids(fill_name(text, fact), style=fact.kind) for text in texts}
        fitting = [
            t
            for t, ids in answers.items()
            if prompts.max_length is None or len(prompt) + len(ids) <= prompts.max_length
        ]
        if not fitting:
            continue
        prefix = run_prefix(loaded, [prompt])
        for batch in length_sorted_batches([len(answers[text]) for text in fitting], REFUSAL_TOKENS):
            sums = partial(_sums, loaded, prefix, answers)
            for part, found in loaded.room.parts("refusals to score", [fitting[i] for i in batch], sums):
                for text, (total, tokens) in zip(part, found, strict=True):
                    scores.sums[text] = scores.sums.get(text, 0.0) + total
                    scores.tokens[text] = scores.tokens.get(text, 0) + tokens
                    scores.questions[text] = scores.questions.get(text, 0) + 1


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
