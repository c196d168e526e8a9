"""The whole configuration of an experiment as one frozen-by-convention dataclass; ``config.compose`` fills it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.config.sections.edit import EditConfig
from unierase_cli.config.sections.evaluation import EvalConfig, ProtocolConfig
from unierase_cli.config.sections.launcher import LauncherConfig
from unierase_cli.config.sections.mode import ModeConfig
from unierase_cli.config.sections.model import MethodConfig, ModelConfig, RunConfig, TrainConfig
from unierase_cli.config.sections.prepare import PrepareConfig
from unierase_cli.config.sections.token import TokenConfig
from unierase_cli.config.sections.unlearn import WATCHING, AdapterConfig, UnlearnConfig
from unierase_cli.contracts import UserError


def what_counts(experiment: Experiment) -> dict[str, Any]:
    """The settings of a gradient method that its result depends on, as plain data."""
    parts = {name: asdict(getattr(experiment, name)) for name in ("method", "unlearn", "adapter")}
    parts["method"].pop("note")
    for key in WATCHING:
        parts["unlearn"].pop(key)
    return parts


@dataclass
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
    prepare: PrepareConfig = field(default_factory=PrepareConfig)
    run: RunConfig = field(default_factory=RunConfig)

    @classmethod
    def from_json(cls, data: dict) -> Experiment:
        """The experiment that a manifest recorded under ``config``. Raises UserError if this version can't read it."""
        import json

        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        if "${" in json.dumps(data):  # would be filled in with this machine's environment; a run records what it was filled with
            raise UserError("the recorded configuration is not one of this version: it has a ${ in it", "make the run anew")
        try:
            merged = OmegaConf.merge(OmegaConf.structured(cls), data)
            return OmegaConf.to_object(merged)  # type: ignore[return-value]
        except OmegaConfBaseException as error:
            first = str(error).splitlines()[0]
            raise UserError(
                f"the recorded configuration is not one of this version: {first}", "make the run anew"
            ) from error


@dataclass
class Composition(Experiment):
    """All that conf/ and the words of a command say: the experiment, and how a sweep starts its runs.

    The launcher stays out of ``Experiment``, and so out of manifests and keys: what a run makes does not depend on it.
    """

    launcher: LauncherConfig = field(default_factory=LauncherConfig)

    def experiment(self) -> Experiment:
        return Experiment(**{section.name: getattr(self, section.name) for section in fields(Experiment)})
