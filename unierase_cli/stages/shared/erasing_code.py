"""The code that an erase artefact depends on: of the method, its loss terms, the mode and the benchmark."""

from __future__ import annotations

from unierase_cli.benchmarks.base import BENCHMARKS
from unierase_cli.config.schema import Experiment
from unierase_cli.methods.base import METHODS
from unierase_cli.methods.settings import TERMS
from unierase_cli.modes.base import MODES
from unierase_cli.plugins import code_of


def erasing_code(experiment: Experiment) -> dict[str, str]:
    """Fingerprints of that code; raises UserError for an unknown method, term, mode or benchmark."""
    method, benchmark = experiment.method, experiment.benchmark
    terms = [term.term for term in (method.forget, method.retain) if term.term is not None] if method.trains else []
    return {
        **code_of("method", METHODS, method.implemented_by),
        **code_of("loss", TERMS, *terms),
        **code_of("mode", MODES, experiment.mode.name),
        **code_of("benchmark", BENCHMARKS, benchmark.implementation or benchmark.name),
    }
