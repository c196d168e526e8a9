"""Gaussian noise on every weight, a share of the matrix's own spread, under several seeds (audit, section 6)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from unierase_cli.audit.asking import answers
from unierase_cli.audit.base import RETAIN, Case, Row, Target
from unierase_cli.audit.weights import changed
from unierase_cli.contracts import stable_hash
from unierase_cli.models.weight_changes import with_noise

CLASS, PRESET, VERSION = "weights", "standard", 2
# Standard deviations of the noise, as shares of the matrix's; the first number is the headline.
SETTINGS: Mapping[str, Any] = {"shares": [0.03, 0.01, 0.1], "seeds": 3}


def cases(settings: Mapping[str, Any]) -> Sequence[Case]:
    return [Case(f"{100 * share:g} percent", {"share": share}) for share in settings["shares"]]


def run(target: Target, case: Case, settings: Mapping[str, Any]) -> Iterable[Row]:
    for sample in range(settings["seeds"]):

        def noisy(name: str, weight: Tensor, sample: int = sample) -> Tensor:
            # The same noise in every model under audit.
            generator = torch.Generator().manual_seed(stable_hash(target.seed, "noise", sample, name))
            return with_noise(weight, case.values["share"], generator)

        with changed(target.loaded, noisy):
            yield from answers(target, target.facts, sample=sample, probability=True)
            yield from answers(target, target.kept, split=RETAIN, sample=sample)
