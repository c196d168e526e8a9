"""The parts of a chain, each as the experiment that its method sees; a method without parts is its own only part."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from typing import Any

from unierase_cli.config.checks import complete, positive
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.model import MethodConfig, PartConfig
from unierase_cli.config.sections.unlearn import UnlearnConfig
from unierase_cli.contracts import UserError


def parts_of(experiment: Experiment) -> dict[str, Experiment]:
    """Name -> the part's experiment, in order: its method, and the settings that it trains with. {"": the experiment} if the
    method is no chain.

    Raises UserError for unknown or invalid settings of a part.
    """
    method = experiment.method
    if not method.chain:
        return {"": experiment}
    return {name: _part(experiment, name, part) for name, part in method.chain.items()}


@contextmanager
def naming(part: str) -> Iterator[None]:
    """Errors about a part's own settings say where these are: ``method.chain.PART.KEY`` instead of ``method.KEY``."""
    try:
        yield
    except UserError as error:
        if not part:
            raise
        message, hint = (re.sub(r"\bmethod\.(?!chain\.)", f"method.chain.{part}.", text) for text in (error.message, error.hint))
        raise UserError(message, hint) from error


def with_batches(experiment: Experiment, lower: Callable[[Experiment], UnlearnConfig]) -> Experiment:
    """The experiment with the batch sizes that ``lower`` gives each part that trains."""
    method = experiment.method
    if not method.chain:
        return experiment if method.editing else replace(experiment, unlearn=lower(experiment))
    sizes = {name: lower(part).batch_size for name, part in parts_of(experiment).items() if not part.method.editing}
    chain = {
        name: replace(part, unlearn={**part.unlearn, "batch_size": sizes[name]}) if name in sizes else part
        for name, part in method.chain.items()
    }
    return replace(experiment, method=replace(method, chain=chain))


def _part(experiment: Experiment, name: str, part: PartConfig) -> Experiment:
    method = MethodConfig(**{f.name: getattr(part, f.name) for f in fields(MethodConfig) if f.name != "chain"})
    # The token adds rows to the embedding and the head, which a replaced tensor would not have.
    ends = {"ends": False} if experiment.method.token and not part.editing else {}
    if ends and part.unlearn.get("ends"):
        message = f"method.chain.{name}.unlearn.ends=true: embedding and head cannot be trained beside an unlearning token"
        raise UserError(message, "leave it out")
    positive(f"method.chain.{name}.rate", part.rate)
    if part.editing and part.rate != 1:
        raise UserError(f"method.chain.{name}.rate={part.rate:g}: {name} is a closed-form edit, which has no rate", "leave it out")
    run = experiment.unlearn
    # What the run sets for its optimiser means nothing to another one.
    fresh: dict[str, Any] = {"optimizer_settings": {}} if part.unlearn.get("optimizer", run.optimizer) != run.optimizer else {}
    own = {**ends, **fresh, "lr": part.rate * run.lr, **part.unlearn}
    unlearn = _changed(run, own, f"method.chain.{name}.unlearn")
    return replace(
        experiment,
        method=method,
        unlearn=replace(unlearn, optimizer_settings=unlearn.all_optimizer_settings()),
        adapter=_changed(experiment.adapter, part.adapter, f"method.chain.{name}.adapter"),
    )


def _changed(section: Any, given: Mapping[str, Any], where: str) -> Any:
    complete(asdict(section), given, where)
    return replace(section, **given) if given else section
