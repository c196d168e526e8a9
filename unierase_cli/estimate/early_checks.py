"""What a method asks for that can be told from the configuration and the model's config.json, before anything is made."""

from __future__ import annotations

from unierase_cli.config.checks import model_block, reference_fits
from unierase_cli.estimate.need import rows_of
from unierase_cli.estimate.shapes import shape_of
from unierase_cli.estimate.training import stored_reference
from unierase_cli.methods.traits import check_adapter, rows_per_fact
from unierase_cli.pipeline.study import Study

# How much larger than the limit an estimate must be before it counts.
MARGIN = 2.5


def check_method(study: Study) -> None:
    """Raises UserError for a method that trains adapters without one, for a batch larger than the forget set, and for a loss term
    on a block that the model lacks.

    The method checks all of it again on the loaded model; a hub model that nobody downloaded yet is first known there.
    """
    experiment, method = study.experiment, study.experiment.method
    check_adapter(experiment)
    if method.trains:
        _check_batch(study)
    # By the name that terms give it: asking the term itself would import torch.
    blocks = {role: term.settings.get("layer") for role, term in (("forget", method.forget), ("retain", method.retain))}
    if not any(isinstance(block, int) for block in blocks.values()):
        return
    shape, _ = shape_of(experiment)
    for role, block in blocks.items():
        if shape is not None and isinstance(block, int):
            model_block(f"method.{role}.settings.layer", block, shape.blocks)


def check_reference_size(study: Study) -> None:
    """Raises UserError where what losses keep of the model before unlearning would be far more than ``unlearn.reference_gib``.

    By an estimate, hence with a margin; what is nearer to the limit is known when it comes to it.
    """
    experiment = study.experiment
    limit, (shape, _) = experiment.unlearn.reference_gib, shape_of(experiment)
    if not experiment.method.trains or shape is None:
        return
    gib = stored_reference(study, shape, rows_of(study.benchmark, steps=study.steps)) / 2**30
    if gib > MARGIN * limit:
        reference_fits(gib, limit, "by an estimate")


def _check_batch(study: Study) -> None:
    """Modes that cut the forget set lower the batch to their steps' requests by themselves."""
    experiment = study.experiment
    if not (study.stepwise or study.independent):
        # So many rows at most; of fewer one hears once they are drawn.
        experiment.unlearn.check_batch(rows_per_fact(experiment.method) * len(study.benchmark.forget))
