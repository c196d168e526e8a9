"""What a gradient method would refuse once a model is loaded, as far as the configuration shows it before."""

from __future__ import annotations

from collections.abc import Sequence

from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import Step, UserError
from unierase_cli.methods.gradient_rows import check_rows
from unierase_cli.methods.gradient_terms import Terms, bind_terms, check_labels, kinds_of, reference_needs
from unierase_cli.methods.trained import check_sharding
from unierase_cli.models.load import choose_device
from unierase_cli.training.adapters import check_peft
from unierase_cli.training.events import check_tensorboard
from unierase_cli.training.optimisation import check_paged
from unierase_cli.training.reference import NOT_STORED
from unierase_cli.training.token_weights import load_token_weights


def check(experiment: Experiment, steps: Sequence[Step], refusals: Sequence[str], *, alternates: bool = False) -> None:
    """Raises UserError for terms and settings that do not exist or do not go together, rows that the benchmark lacks, packages
    that are missing, and a file of token weights that cannot be read. ``alternates``: other answers will be drawn.
    """
    method, config = experiment.method, experiment.unlearn
    terms = bind_terms(method.forget, method.retain, experiment.run.seed)
    for step in steps:
        check_rows(kinds_of(terms), method.name, retain=bool(step.retain), refusals=bool(refusals), alternates=alternates)
    check_labels(terms, config)
    _check_reference(terms, experiment)
    check_sharding(config, experiment.adapter)
    if experiment.adapter.name == "lora":
        check_peft()
        if config.compute != "auto" or not config.masters:
            raise UserError(
                "unlearn.compute and unlearn.masters say how all weights are trained; adapters are float32 on the model as loaded",
                "leave them out, and choose the model's type with model.dtype",
            )
    if config.optimizer == "paged_adamw_8bit":
        check_paged(choose_device(experiment.run.device))
    if config.tensorboard:
        check_tensorboard()
    if config.token_weights is not None:
        load_token_weights(config.token_weights)


def _check_reference(terms: Terms, experiment: Experiment) -> None:
    """A loss over every position needs the model before unlearning at hand: as the adapter switched off, or a second model."""
    wanted, original = experiment.unlearn.reference, experiment.mode.reference == "original"
    by_adapter = experiment.adapter.name == "lora" and wanted != "stored" and not original
    everything = {what for found in reference_needs(terms).values() for what in found}
    if "all_logits" in everything and not by_adapter and wanted != "second_model":
        raise UserError(*NOT_STORED)
