"""A model state with six rows a split, for metrics and what is made of them."""

from __future__ import annotations

from dataclasses import replace

from tests.helpers.said import REFUSALS, scored
from unierase_cli.contracts import Observation
from unierase_cli.metrics.base import Evidence


def state(
    name: str, knows: bool, token: bool, splits: tuple[str, ...] = ("forget", "retain_unseen", "world_facts")
) -> Evidence:
    """Six rows a split. ``knows``: the forget set is answered truly; ``token``: the model has an unlearning token."""
    observations: dict[tuple[str, str], list[Observation]] = {}
    for split in splits:
        rows = []
        for i in range(6):
            lost = split == "forget" and not knows
            row = scored(0.9, None if split == "world_facts" else 0.5, [0.1, 0.2], split, row=f"{split}{i}")
            text = REFUSALS[0] if lost else row.reference
            seen = {"first_unlearn_probability": float(lost), "first_is_unlearn": lost} if token else {}
            rows.append(replace(row, fact_id=f"{split}{i}", text=text, raw_text=text, generated_ids=[1, 2], **seen))
        observations[split, "plain"] = rows
    variants = ["paraphrased"] + (["unlearn_forbidden"] if token else [])
    for variant in variants:
        rows = [replace(o, variant=variant, answers={}, text=o.reference) for o in observations["forget", "plain"]]
        observations["forget", variant] = rows
    return Evidence(name, observations, refusals=REFUSALS)
