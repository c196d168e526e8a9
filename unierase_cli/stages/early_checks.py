"""What a method asks for that can be told from the configuration and the model's config.json, before anything is made."""

from __future__ import annotations

from unierase_cli.config.checks import adapter_at_hand, model_block
from unierase_cli.config.schema import Experiment
from unierase_cli.stages.shapes import shape_of


def check_method(experiment: Experiment) -> None:
    """Raises UserError for a method that trains adapters without one, and for a loss term on a block that the model lacks.

    The method checks both again on the loaded model; a hub model that nobody downloaded yet is first known there.
    """
    method = experiment.method
    if method.implemented_by == "lora_negation":
        adapter_at_hand(method.name, experiment.adapter.name)
    # By the name that terms give it: asking the term itself would import torch.
    blocks = {role: term.settings.get("layer") for role, term in (("forget", method.forget), ("retain", method.retain))}
    if not any(isinstance(block, int) for block in blocks.values()):
        return
    shape, _ = shape_of(experiment)
    for role, block in blocks.items():
        if shape is not None and isinstance(block, int):
            model_block(f"method.{role}.settings.layer", block, shape.blocks)
