"""The whole configuration of an experiment as one frozen dataclass; ``config.compose`` fills it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import TYPE_CHECKING, Any

from unierase_cli.config.counted import counted
from unierase_cli.config.sections.audit import AuditConfig
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.config.sections.edit import EditConfig
from unierase_cli.config.sections.evaluation import EvalConfig, ProtocolConfig
from unierase_cli.config.sections.launcher import LauncherConfig
from unierase_cli.config.sections.mode import ModeConfig
from unierase_cli.config.sections.model import MethodConfig, ModelConfig, RunConfig, TrainConfig
from unierase_cli.config.sections.prepare import PrepareConfig
from unierase_cli.config.sections.token import TokenConfig
from unierase_cli.config.sections.unlearn import AdapterConfig, UnlearnConfig
from unierase_cli.contracts import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig
# Key of an earlier version -> where its value is set now, and its default then.
MOVED: dict[str, tuple[str, Any]] = {
    "method.scale": ("method.settings.scale", 1.0),
    "unlearn.alternates": ("method.settings.alternates", 5),
    "unlearn.rho": ("unlearn.optimizer_settings.rho", 0.04),
}


@cache
def _structured(kind: type) -> Any:
    """The dataclass as OmegaConf reads it, which takes a tenth of a second. Shared: merging into it works on a copy."""
    from omegaconf import OmegaConf

    return _writable(OmegaConf.structured(kind))


def what_counts(experiment: Experiment) -> dict[str, Any]:
    """The settings of a gradient method that its result depends on, as plain data."""
    return {name: counted(getattr(experiment, name)) for name in ("method", "unlearn", "adapter")}


def typed(kind: type, data: Any) -> DictConfig:
    """The data with the types and defaults of a dataclass. Raises OmegaConf's errors for keys and values that do not fit.

    OmegaConf takes a frozen dataclass for one that nothing may be merged into; what is frozen here is what comes of it.
    """
    from omegaconf import OmegaConf

    merged = OmegaConf.merge(_structured(kind), data)
    return _writable(merged)


def default_of(key: str) -> Any:
    """The schema's own value of a dotted key, as OmegaConf holds it."""
    from omegaconf import OmegaConf

    return copy.deepcopy(OmegaConf.select(_structured(Composition), key))


def _writable(node: Any) -> Any:
    from omegaconf import OmegaConf

    if OmegaConf.is_config(node):
        OmegaConf.set_readonly(node, None)
        for key in node if OmegaConf.is_dict(node) else range(len(node)):
            if not OmegaConf.is_missing(node, key) and not OmegaConf.is_interpolation(node, key):
                _writable(node[key])
    return node


@dataclass(frozen=True)
class Experiment:
    """Everything a run reads. A stage reads the sections it declares, and only those enter its key."""

    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    benchmark: BenchmarkConfig = field(default_factory=BenchmarkConfig)
    mode: ModeConfig = field(default_factory=ModeConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    token: TokenConfig = field(default_factory=TokenConfig)
    edit: EditConfig = field(default_factory=EditConfig)
    unlearn: UnlearnConfig = field(default_factory=UnlearnConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    protocol: ProtocolConfig = field(default_factory=ProtocolConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    audit: AuditConfig = field(default_factory=AuditConfig)
    prepare: PrepareConfig = field(default_factory=PrepareConfig)
    run: RunConfig = field(default_factory=RunConfig)

    @classmethod
    def from_json(cls, data: dict) -> Experiment:
        """The experiment that a manifest recorded under ``config``. Raises UserError if this version can't read it."""
        import json

        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        if "${" in json.dumps(data):  # would be filled in with this machine's environment; a run records what it was filled with
            raise UserError("the recorded configuration is not one of this version: it has a ${ in it", "make the run again")
        try:
            return OmegaConf.to_object(typed(cls, without_moved(data)))  # type: ignore[return-value]
        except OmegaConfBaseException as error:
            first = str(error).splitlines()[0]
            raise UserError(
                f"the recorded configuration is not one of this version: {first}", "make the run again"
            ) from error


@dataclass(frozen=True)
class Composition(Experiment):
    """All that conf/ and the words of a command say: the experiment, and how a sweep starts its runs.

    The launcher stays out of ``Experiment``, and so out of manifests and keys: what a run makes does not depend on it.
    """

    launcher: LauncherConfig = field(default_factory=LauncherConfig)

    def experiment(self) -> Experiment:
        return Experiment(**{section.name: getattr(self, section.name) for section in fields(Experiment)})


def without_moved(data: Mapping[str, Any]) -> dict[str, Any]:
    """What an earlier version recorded, without the keys that have moved where they had their defaults."""
    found = {section: dict(keys) if isinstance(keys, dict) else keys for section, keys in data.items()}
    for key, (_, default) in MOVED.items():
        section, _, name = key.partition(".")
        if isinstance(found.get(section), dict) and found[section].get(name) == default:
            del found[section][name]
    return found
