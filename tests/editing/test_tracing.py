"""Causal tracing: effects against plain forward passes, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.tiny_models import FAMILIES, FURTHER, tiny
from tests.helpers.tracing import plainly, ready, traced_plainly
from unierase_cli.editing.tracing.effects import (
    Restoration,
    restore,
)

KINDS = ("residual", "mlp", "attention")
# Steps of float32 over a few blocks, in probability and log-probability.
CLOSE = {"rtol": 1e-4, "atol": 2e-6}


@pytest.mark.parametrize("family", [*FAMILIES, *FURTHER])
def test_effects_are_those_of_plain_forward_passes(family: str) -> None:
    """One fact at a time, without cache, cut or padding: the same numbers as a padded batch of several."""
    loaded = tiny(family)
    requests, noise = ready(loaded, count=2, samples=2)
    jobs = [Restoration(r, (at,), n) for r, n in zip(requests, noise, strict=True) for at in (r.subject[0], r.prompt - 1)]
    found = restore(loaded.architecture, jobs, KINDS, 2, loaded.prompts.pad_id)
    for job, one in zip(jobs, found, strict=True):
        clean, _ = plainly(loaded, job.request)
        corrupted = torch.stack([plainly(loaded, job.request, each)[0] for each in job.noise]).mean(0)
        wanted = traced_plainly(loaded, job.request, job.noise, KINDS, 2, job.positions[0])
        torch.testing.assert_close(one.clean, clean, **CLOSE)
        torch.testing.assert_close(one.corrupted, corrupted, **CLOSE)
        torch.testing.assert_close(one.restored, wanted, **CLOSE)
