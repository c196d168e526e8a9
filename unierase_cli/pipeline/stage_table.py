"""A table of all stages: their commands, the names of their artefacts, and whether several processes run them together.

Commands read this table before they know what they need, so it imports no stage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unierase_cli.config.schema import Experiment

Options = Mapping[str, str]


def _data_and_model(experiment: Experiment, options: Options) -> list[str]:
    return [f"{experiment.benchmark.name}-{experiment.benchmark.split}", experiment.model.name]


def _trained_model(experiment: Experiment, options: Options) -> list[str]:
    return [experiment.model.name, f"{experiment.benchmark.name}-{experiment.train.split}"]


def _prepared(experiment: Experiment, options: Options) -> list[str]:
    return [experiment.benchmark.name, experiment.model.name]


def _revealed(experiment: Experiment, options: Options) -> list[str]:
    return [experiment.model.name, *_targets(experiment), experiment.reveal.search]


def _coverage(experiment: Experiment, options: Options) -> list[str]:
    return [*_data_and_model(experiment, options), *_targets(experiment), experiment.reveal.search]


def _targets(experiment: Experiment) -> list[str]:
    targets = experiment.reveal.targets
    return [] if targets is None else [PurePath(targets).stem]


def _token(experiment: Experiment, options: Options) -> list[str]:
    return [*_data_and_model(experiment, options), f"token-{experiment.token.name}"]


def _moments(experiment: Experiment, options: Options) -> list[str]:
    return [*_data_and_model(experiment, options), "moments"]


def _trace(experiment: Experiment, options: Options) -> list[str]:
    return [*_data_and_model(experiment, options), "trace"]


def _attribute(experiment: Experiment, options: Options) -> list[str]:
    return [*_data_and_model(experiment, options), "attribute"]


def _edit(experiment: Experiment, options: Options) -> list[str]:
    mode = experiment.mode.name + (f"-{experiment.mode.suite}" if experiment.mode.suite else "")
    return [*_data_and_model(experiment, options), experiment.method.name, mode]


def _state(experiment: Experiment, options: Options) -> list[str]:
    state = options.get("state")
    named = _edit if state == "edited" else _data_and_model
    return [*named(experiment, options), *(["base"] if state == "base" else [])]


def _attack(experiment: Experiment, options: Options) -> list[str]:
    of = options.get("of", "")
    named = _edit if of == "edited" else _data_and_model
    return [*named(experiment, options), *([] if of == "edited" else [of]), options.get("attack", "")]


def _always(experiment: Experiment) -> bool:
    return True


def _never(experiment: Experiment) -> bool:
    return False


def _where_gradients_train(experiment: Experiment) -> bool:
    return not experiment.method.editing


@dataclass(frozen=True)
class StageEntry:
    """A stage.

    ``named``: words of its artefacts' names, without seed and step; ``command``: the command that makes it if it is
    missing; ``commands``: all commands that end in it; ``joint``: whether all processes of a launcher take part.
    """

    named: Callable[[Experiment, Options], list[str]]
    command: str
    commands: tuple[str, ...] = ()
    joint: Callable[[Experiment], bool] = _never


# In listing order.
STAGES = {
    "ask": StageEntry(_prepared, "prepare"),
    "prepare": StageEntry(_prepared, "prepare", ("prepare", "prepare-return")),
    "finetune": StageEntry(_trained_model, "finetune", ("finetune",), _always),
    "train_token": StageEntry(_token, "train-token", ("train-token",)),
    "moments": StageEntry(_moments, "moments", ("moments",)),
    "attribute": StageEntry(_attribute, "attribute", ("attribute",)),
    "trace": StageEntry(_trace, "trace", ("trace",)),
    "reveal": StageEntry(_revealed, "reveal", ("reveal",)),
    "coverage": StageEntry(_coverage, "coverage", ("coverage",)),
    "erase": StageEntry(_edit, "erase", ("edit", "erase"), _where_gradients_train),
    "observe": StageEntry(_state, "eval", joint=_always),
    "observe_facts": StageEntry(_edit, "eval", joint=_always),
    "probe": StageEntry(_state, "eval"),
    "general": StageEntry(_state, "eval", joint=_always),
    # The last stage of an evaluation, unless the mode has another.
    "score": StageEntry(_edit, "score", ("eval", "score")),
    "trajectory": StageEntry(_edit, "eval"),
    "precise": StageEntry(_edit, "eval"),
    "report": StageEntry(_edit, "report", ("run", "report")),
    "attack": StageEntry(_attack, "audit"),
    "audit": StageEntry(_edit, "audit", ("audit",)),
}


def stage_of(command: str) -> str:
    """The last stage of a command; raises KeyError for a command that makes none."""
    return {name: stage for stage, entry in STAGES.items() for name in entry.commands}[command]
