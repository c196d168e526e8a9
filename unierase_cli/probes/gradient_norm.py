"""The gradient norm of an answer's loss; small for memorised examples (spec: metrics, section 4, ``gradnorm``).

Mean over the parameter tensors of the 2-norm of d(mean loss of the answer) / d(tensor), one example at a time. As in
the reference, the loss excludes the end token and the white space that the template writes before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from unierase_cli.models.load import LoadedModel
from unierase_cli.probes.base import Asking, batch_of, training_row
from unierase_cli.training.unlearning.views import View

VERSION = 2


def rows(loaded: LoadedModel, asking: Asking, remembered: Any) -> Iterator[dict[str, Any]]:
    """``{"split", "fact_id", "value"}`` for every forget and holdout fact."""
    parameters = list(loaded.model.parameters())
    asked = [parameter.requires_grad for parameter in parameters]
    loaded.model.requires_grad_(True)
    try:
        with torch.enable_grad():
            for split, fact in asking.of("forget", "holdout"):
                row = training_row(loaded, fact, asking.protocol)
                losses = View(loaded, batch_of(loaded, [row])).nll
                own = loaded.prompts.answer(fact.answer, style=fact.kind).own
                counted = losses[:own] if own else losses
                gradients = torch.autograd.grad(counted.mean(), parameters, allow_unused=True)
                norms = [0.0 if g is None else float(g.float().norm()) for g in gradients]
                yield {"split": split, "fact_id": fact.id, "value": sum(norms) / len(norms)}
                asking.advance()
    finally:
        for parameter, before in zip(parameters, asked, strict=True):
            parameter.requires_grad_(before)


def count(asking: Asking) -> int:
    """Number of rows that ``rows`` yields."""
    return len(asking.of("forget", "holdout"))
