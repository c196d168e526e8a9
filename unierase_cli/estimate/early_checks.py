"""Checks of a method's settings that need only the configuration and the model's config.json."""

from __future__ import annotations

from unierase_cli.config.checks import model_block, reference_fits
from unierase_cli.estimate.need import rows_of
from unierase_cli.estimate.shapes import shape_of
from unierase_cli.estimate.training import stored_reference
from unierase_cli.methods.parts import naming, parts_of
from unierase_cli.methods.traits import check_adapter, fits_batches, rows_per_fact
from unierase_cli.pipeline.study import Study

# How many times the limit an estimate must be to count.
MARGIN = 2.5


def check_method(study: Study) -> None:
    """Raise UserError for a setting that the method cannot work with.

    That is an adapter method without an adapter, a batch larger than the forget set, or a loss term on a block that the
    model lacks. The method repeats these checks on the loaded model, which is the first time for a hub model that is
    not yet downloaded.
    """
    for name, part in parts_of(study.experiment).items():
        with naming(name):
            _check_part(study.changed(part))


def _check_part(study: Study) -> None:
    experiment, method = study.experiment, study.experiment.method
    check_adapter(experiment)
    if method.trains:
        _check_batch(study)
    # Read the setting by its name, because asking the term itself would import torch.
    blocks = {role: term.settings.get("layer") for role, term in (("forget", method.forget), ("retain", method.retain))}
    if not any(isinstance(block, int) for block in blocks.values()):
        return
    shape, _ = shape_of(experiment)
    for role, block in blocks.items():
        if shape is not None and isinstance(block, int):
            model_block(f"method.{role}.settings.layer", block, shape.blocks)


def check_reference_size(study: Study) -> None:
    """Raise UserError if the stored reference would be far larger than ``unlearn.reference_gib``.

    The size is an estimate, hence the margin. Sizes closer to the limit are checked exactly during the run.
    """
    shape, _ = shape_of(study.experiment)
    for part in parts_of(study.experiment).values():
        if not part.method.trains or shape is None:
            continue
        rows = rows_of(study.benchmark, steps=study.steps)
        gib, limit = stored_reference(study.changed(part), shape, rows) / 2**30, part.unlearn.reference_gib
        if gib > MARGIN * limit:
            reference_fits(gib, limit, "by an estimate")


def _check_batch(study: Study) -> None:
    """Check the batch size, except in modes that divide the forget set: they reduce it to the size of a request themselves."""
    experiment = study.experiment
    if not (study.stepwise or study.independent or fits_batches(experiment.method)):
        # An upper bound of the rows; a smaller number is only known once they are sampled.
        experiment.unlearn.check_batch(rows_per_fact(experiment.method) * len(study.benchmark.forget))
