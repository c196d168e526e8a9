"""The code that an erase artefact depends on: of the method, its loss terms, the mode and the benchmark."""

from __future__ import annotations

from unierase_cli.benchmarks.base import BENCHMARKS
from unierase_cli.config.schema import Experiment
from unierase_cli.methods.base import METHODS
from unierase_cli.methods.parts import parts_of
from unierase_cli.methods.settings import TERMS
from unierase_cli.modes.base import MODES
from unierase_cli.plugins import code_of


def erasing_code(experiment: Experiment) -> dict[str, str]:
    """Fingerprints of that code; raises UserError for an unknown method, term, mode or benchmark."""
    benchmark = experiment.benchmark
    methods = [part.method for part in parts_of(experiment).values()]
    names = dict.fromkeys([experiment.method.implemented_by, *(method.implemented_by for method in methods)])
    both = [term.term for method in methods if method.trains for term in (method.forget, method.retain)]
    terms = dict.fromkeys(term for term in both if term is not None)
    return {
        **code_of("method", METHODS, *names),
        **code_of("loss", TERMS, *terms),
        **code_of("mode", MODES, experiment.mode.name),
        **code_of("benchmark", BENCHMARKS, benchmark.implementation or benchmark.name),
    }
