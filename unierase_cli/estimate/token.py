"""Memory of training the rows of [UNL], and of refining them on the edited model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.edit import ANSWERS
from unierase_cli.config.sections.token import TokenConfig
from unierase_cli.estimate.need import Need, Rows
from unierase_cli.estimate.workspace import Workspace
from unierase_cli.sizes import GUARDED, GUARDED_PLACES, PREFIX_BYTES, REFUSAL_TOKENS, pass_tokens
from unierase_cli.training.token.targets import load_targets

# Length of a refusal in tokens.
REFUSAL_LENGTH = 20


def token_needs(experiment: Experiment, space: Workspace, rows: Rows, stage: str, layers: Sequence[int]) -> list[Need]:
    """Training of the token's rows; ``erase`` refines them with the same kind of steps."""
    token, shape = experiment.token, space.shape
    refining = stage == "erase"
    amplitudes = [token.refine_noise] if refining else [s.noise for s in token.stages]
    suffix = token.batch_size * (REFUSAL_LENGTH + 2)
    phase = "refine token" if refining else "steps"
    need = partial(Need, stage)
    needs = [
        need("activations for the backward pass", space.kept(suffix, trained=False), f"{suffix} tokens", phase),
        need("logits and gradients", space.logits(suffix, 3), f"3 x {suffix} positions", phase),
    ]
    if any(amplitudes):
        each = shape.hidden * shape.inner
        copies = space.copies(1, each, space.size) + space.copies(1, each)
        needs.append(need("noisy matrices, stored and float32", len(layers) * copies, "", phase))
        needs.append(need("noise, and a matrix with it", space.copies(2, each), "", phase))
    if not all(amplitudes):
        # Facts without a listed refusal are repeated until they count as much as all others.
        count = max(rows.forget, 1) * (2 if refining and token.refine_rounds else 1)
        held = min(PREFIX_BYTES, space.cache(count, rows.question))
        needs.append(need("prefixes of all questions", held, f"{count} of {rows.question} tokens", phase))
    if refining:
        return needs + (_guard(experiment, space, rows) if shape.tied and token.refine_guard and rows.protect else [])
    refusals = len(load_targets(TokenConfig()))
    tokens = min(REFUSAL_TOKENS, refusals * REFUSAL_LENGTH)
    needs.append(Need(stage, "pass over refusals", space.forward(tokens), f"{tokens} tokens", "refusals"))
    return needs


def _guard(experiment: Experiment, space: Workspace, rows: Rows) -> list[Need]:
    """The answers that a tied row must not enter: a pass over them, and what stays of it while the row is refined."""
    moments, count = experiment.edit.moments, min(GUARDED, rows.protect)
    answer = moments.answer_tokens if moments.corpus == ANSWERS else rows.learned
    tokens, places, phase = count * (rows.question + answer), count * answer, "guard"
    looked, logits = min(pass_tokens(space.heap), tokens), min(GUARDED_PLACES, places)
    states = space.copies(1, places * space.shape.hidden, space.size)
    return [
        Need("erase", "pass over answers to guard", space.forward(looked), f"{looked} tokens", phase),
        Need("erase", "logits of answers to guard", space.logits(logits, 3), f"3 x {logits} places", phase),
        *(Need("erase", "states of answers to guard", states, f"{places} places", at) for at in (phase, "refine token")),
    ]
