"""The whole configuration of an experiment as a frozen dataclass; ``config.compose`` fills it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field, fields
from functools import cache
from typing import TYPE_CHECKING, Any

from unierase_cli.config.counted import counted
from unierase_cli.config.rebuilt import Unlike, rebuilt
from unierase_cli.config.sections.attribute import AttributeConfig
from unierase_cli.config.sections.audit import AuditConfig
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.config.sections.edit import EditConfig
from unierase_cli.config.sections.evaluation import EvalConfig, ProtocolConfig
from unierase_cli.config.sections.launcher import LauncherConfig
from unierase_cli.config.sections.mode import ModeConfig
from unierase_cli.config.sections.model import MethodConfig, ModelConfig, PartConfig, RunConfig, TrainConfig
from unierase_cli.config.sections.prepare import PrepareConfig
from unierase_cli.config.sections.reveal import RevealConfig
from unierase_cli.config.sections.token import TokenConfig
from unierase_cli.config.sections.trace import TraceConfig
from unierase_cli.config.sections.unlearn import AdapterConfig, UnlearnConfig
from unierase_cli.contracts import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig
# The one mapping whose values are sections.
CHAIN = "method.chain"
# Key of an earlier version -> (its key now, its default then).
MOVED: dict[str, tuple[str, Any]] = {
    "method.scale": ("method.settings.scale", 1.0),
    "unlearn.alternates": ("method.settings.alternates", 5),
    "unlearn.rho": ("unlearn.optimizer_settings.rho", 0.04),
}
# Keys of earlier versions that have no successor; runs that recorded them can still be scored and applied.
REMOVED = ("edit.moments.subject_end_weight", "unlearn.tensorboard")
# Keys whose values in earlier versions were of another type and have no meaning for a result.
RETYPED = {"model.verified": bool}


@cache
def _structured(kind: type) -> Any:
    """The dataclass as an OmegaConf structure, cached because building it takes 0.1 s; merging works on a copy."""
    from omegaconf import OmegaConf

    return _writable(OmegaConf.structured(kind))


def what_counts(experiment: Experiment) -> dict[str, Any]:
    """The settings that a gradient method's result depends on, as plain data."""
    return {name: counted(getattr(experiment, name)) for name in ("method", "unlearn", "adapter")}


def typed(kind: type, data: Any) -> DictConfig:
    """The data with the types and defaults of a dataclass; raises OmegaConf's errors for invalid keys and values.

    OmegaConf makes the config of a frozen dataclass read-only, so that nothing can be merged into it. ``_writable``
    undoes that.
    """
    from omegaconf import OmegaConf

    data = OmegaConf.create(copy.deepcopy(data)) if isinstance(data, dict) else copy.deepcopy(data)
    # A mapping of frozen sections would be filled one key at a time, which OmegaConf forbids.
    chain = OmegaConf.select(data, CHAIN) or {}
    if chain:
        OmegaConf.update(data, CHAIN, {}, merge=False)
    merged = _writable(OmegaConf.merge(_structured(kind), data))
    for name in chain:
        part = OmegaConf.merge(_structured(PartConfig), chain[name])
        OmegaConf.update(merged, f"{CHAIN}.{name}", _writable(part), merge=False)
    return merged


def default_of(key: str) -> Any:
    """The schema's default of a dotted key, in OmegaConf's form."""
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
    """The whole configuration of a run. A stage reads the sections that it declares, and only those enter its key."""

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
    trace: TraceConfig = field(default_factory=TraceConfig)
    attribute: AttributeConfig = field(default_factory=AttributeConfig)
    reveal: RevealConfig = field(default_factory=RevealConfig)
    run: RunConfig = field(default_factory=RunConfig)

    @classmethod
    def from_json(cls, data: dict) -> Experiment:
        """The experiment that a manifest recorded under ``config``; raises UserError if this version cannot read it."""
        import json

        if "${" in json.dumps(data):  # a run records resolved values; an interpolation would read this machine's environment
            raise UserError("this version cannot read the recorded configuration: it has a ${ in it", "make the run again")
        with suppress(Unlike):
            return rebuilt(cls, data)
        # Recorded by an earlier version.
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        try:
            return OmegaConf.to_object(typed(cls, without_moved(data)))  # type: ignore[return-value]
        except OmegaConfBaseException as error:
            first = str(error).splitlines()[0]
            raise UserError(
                f"this version cannot read the recorded configuration: {first}", "make the run again"
            ) from error


@dataclass(frozen=True)
class Composition(Experiment):
    """Everything that conf/ and the words of a command set: the experiment and the launcher of a sweep.

    Results do not depend on the launcher, so it is not part of ``Experiment`` and does not enter manifests and keys.
    """

    launcher: LauncherConfig = field(default_factory=LauncherConfig)

    def experiment(self) -> Experiment:
        return Experiment(**{section.name: getattr(self, section.name) for section in fields(Experiment)})


def without_moved(data: Mapping[str, Any]) -> dict[str, Any]:
    """A recorded configuration without removed and retyped keys, and without moved keys that had their default values."""
    found = deepcopy(dict(data))
    for key in [*MOVED, *REMOVED, *RETYPED]:
        *path, name = key.split(".")
        section: Any = found
        for part in path:
            section = section.get(part) if isinstance(section, dict) else None
        if isinstance(section, dict) and name in section and _outdated(key, section[name]):
            del section[name]
    return found


def _outdated(key: str, value: Any) -> bool:
    return key in REMOVED or (key in MOVED and value == MOVED[key][1]) or isinstance(value, RETYPED.get(key, ()))
