"""Checks of gradient methods that need only the configuration, so that they fail before a model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.attribute import ATTRIBUTION
from unierase_cli.config.sections.unlearn import AdapterConfig, UnlearnConfig, original_reference, reference_from
from unierase_cli.contracts import Step, UserError
from unierase_cli.methods.gradient_rows import check_rows
from unierase_cli.methods.gradient_terms import Terms, bind_terms, check_labels, kinds_of, reference_needs
from unierase_cli.methods.terms.base import FORGET_ALTERNATE
from unierase_cli.methods.trained import check_sharding
from unierase_cli.models.load import choose_device
from unierase_cli.training import processes
from unierase_cli.training.adapters import check_peft
from unierase_cli.training.optimisation import check_paged
from unierase_cli.training.unlearning.reference import NOT_STORED
from unierase_cli.training.unlearning.token_weights import load_token_weights


def check(
    experiment: Experiment, steps: Sequence[Step], refusals: Sequence[str], *, alternates: int = 0, original: bool = False
) -> None:
    """Raise UserError for unknown or incompatible terms and settings, for rows that the benchmark lacks, for missing packages
    and for an unreadable file of token weights. ``alternates``: number of alternative answers to sample per fact. ``original``:
    a loss always compares with the model before all changes.
    """
    method, config = experiment.method, experiment.unlearn
    terms = bind_terms(method.forget, method.retain, experiment.run.seed)
    for step in steps:
        check_rows(kinds_of(terms), method.name, retain=bool(step.retain), refusals=bool(refusals), alternates=alternates > 0)
    check_labels(terms, config)
    sequence = any(step.forgotten_before for step in steps)
    later = sequence and original_reference(experiment.mode, config)
    if config.rehearsal:
        _check_rehearsal(terms, experiment, sequence)
    _check_reference(terms, experiment, original or later)
    if later or (original and reference_needs(terms)):
        check_original(config)
    for step in steps:
        check_sharding(config.lowered(len(step.forget) * max(1, alternates)), experiment.adapter)
    _check_adapter(experiment)
    _check_hardened(terms, experiment)
    if config.optimizer == "paged_adamw_8bit":
        check_paged(choose_device(experiment.run.device))
    if config.token_weights not in (None, ATTRIBUTION):
        load_token_weights(config.token_weights)


def check_original(config: UnlearnConfig) -> None:
    """Raise UserError if the original weights cannot be restored for a later step's reference."""
    if config.sharding == "fsdp":
        raise UserError(
            "a loss that compares with the original model needs the whole model, which unlearn.sharding=fsdp shards",
            "leave out unlearn.sharding=fsdp, mode.reference=original or the term that compares",
        )


def _check_reference(terms: Terms, experiment: Experiment, original: bool) -> None:
    """A loss over every position needs the reference model itself: the model with its adapter off, or a second model."""
    everything = {what for found in reference_needs(terms).values() for what in found}
    if "all_logits" in everything and reference_from(experiment.unlearn, experiment.adapter, original=original) == "stored":
        raise UserError(NOT_STORED, "add unlearn.reference=second_model" + ("" if original else ", or adapter=lora"))


def _check_rehearsal(terms: Terms, experiment: Experiment, sequence: bool) -> None:
    config = experiment.unlearn
    if "forget" not in terms:
        raise UserError(
            f"method={experiment.method.name} has no forget term, which unlearn.rehearsal={config.rehearsal:g} needs",
            "leave it out, or give it to another part of a chain: method.chain.NAME.unlearn.rehearsal=1",
        )
    if sequence and FORGET_ALTERNATE in kinds_of(terms):
        raise UserError(
            "unlearn.rehearsal needs alternative answers of earlier requests, and this loss has only the current request's",
            "leave it out, or choose another loss",
        )
    if sequence and config.sharding == "fsdp":
        raise UserError(
            "unlearn.rehearsal makes batches of another size, which unlearn.sharding=fsdp may not divide evenly",
            "leave one of them out",
        )


def refuse_unread(experiment: Experiment) -> None:
    """Raise UserError for settings of ``unlearn`` that change the forget loss, its rows or what it learned, with a method that
    does not read them.
    """
    config = experiment.unlearn
    others = [("unlearn.rehearsal", config.rehearsal, "1")] if config.rehearsal else []
    others += [("unlearn.scale", config.scale, "0.9")] if config.scale != 1 else []
    for key, value, example in [*_hardened(config), *others]:
        raise UserError(
            f"method={experiment.method.name} does not read {key}={value:g}",
            f"leave it out, or give it to another part of a chain: method.chain.NAME.{key}={example}",
        )


def _hardened(config: UnlearnConfig) -> list[tuple[str, float, str]]:
    """(key, value, example) of the settings in use that take the forget loss at other weights."""
    found = [("unlearn.sharpness", config.sharpness, "0.01"), ("unlearn.adversary_rank", config.adversary_rank, "8")]
    return [one for one in found if one[1]]


# Why one process alone can do it.
ALONE = {
    "unlearn.sharpness": "moves the weights by the whole gradient, which no process has alone",
    "unlearn.adversary_rank": "trains its adapters on the whole forget set, of which each process has a part",
}


def _check_hardened(terms: Terms, experiment: Experiment) -> None:
    for key, value, _ in _hardened(experiment.unlearn):
        if "forget" not in terms or any(hasattr(term, "after_step") for term, _ in terms.values()):
            raise UserError(
                f"{key}={value:g} needs a forget term, and coefficients that stay the same", "leave it out, or choose another loss"
            )
        if processes.world() > 1:
            raise UserError(f"{key} {ALONE[key]}", "start it without a launcher")
    if experiment.unlearn.adversary_rank:
        check_peft()
        if experiment.adapter.name == "lora":
            raise UserError(
                "unlearn.adversary_rank adds adapters beside those that adapter=lora trains", "train all weights, or leave it out"
            )


def _check_adapter(experiment: Experiment) -> None:
    given, usual, config = asdict(experiment.adapter), asdict(AdapterConfig()), experiment.unlearn
    if given["name"] == "lora":
        check_peft()
        if config.modules or config.layers is not None:
            raise UserError(
                "unlearn.modules and unlearn.layers choose among all weights; an adapter has modules of its own",
                "leave them out, and choose with adapter.targets",
            )
        if config.compute != "auto" or not config.masters:
            raise UserError(
                "unlearn.compute and unlearn.masters are for training all weights; adapters are float32 on the model as loaded",
                "leave them out, and choose the model's type with model.dtype",
            )
    elif unread := [key for key in given if given[key] != usual[key]]:
        key = unread[0]
        raise UserError(f"adapter.{key}={given[key]} without an adapter: all weights would be trained", "add adapter=lora")
