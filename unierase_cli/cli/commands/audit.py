"""The command audit: attacks on a finished run, on a run that is made first, or on a model's folder as it is."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unierase_cli.cli.complete import complete_run, complete_run_or_word
from unierase_cli.cli.options import Chosen, Wishes, runs_and_words, with_shared_options
from unierase_cli.cli.session import Journal, stage_command
from unierase_cli.contracts import UserError

if TYPE_CHECKING:
    from unierase_cli.config.schema import Experiment
    from unierase_cli.pipeline.pipeline import Pipeline
    from unierase_cli.store.artefact import Artefact

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="RUN|KEY=VALUE",
        help="Finished RUNs (a path, NAME, NAME@v003, the start of a key, or latest); of several also one table and picture. "
        "Without RUN: the model of the configuration as it is (model.path=FOLDER), or with method=NAME after that method.",
        autocompletion=complete_run_or_word,
        show_default=False,
    ),
]
Attacks = Annotated[
    str | None, typer.Option("--attacks", metavar="A,B", help="quick, standard, thorough, or names (unierase ls attacks).")
]
Control = Annotated[
    str | None,
    typer.Option(
        "--control",
        metavar="MODEL|RUN|facts",
        help="A model that never had the facts; facts: the unedited model, asked others that it never knew.",
        autocompletion=complete_run,
    ),
]
Ceiling = Annotated[
    str | None,
    typer.Option("--ceiling", metavar="MODEL|RUN", help="The unedited model, if not the run's own.", autocompletion=complete_run),
]
Facts = Annotated[int | None, typer.Option("--facts", metavar="N", help="audit.facts=N: so many facts at most.")]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N", help="audit.seed=N: of what attacks draw.")]
# What a finished run leaves open.
OPEN = ("audit.", "audit=", "run.", "eval.batch_size=")


@with_shared_options()
def audit(
    context: typer.Context,
    chosen: Chosen,
    words: Words = None,
    attacks: Attacks = None,
    control: Control = None,
    ceiling: Ceiling = None,
    facts: Facts = None,
    seed: Seed = None,
) -> None:
    runs, typed = runs_and_words(words)
    named = {"audit.facts": facts, "audit.seed": seed}
    found = [f"{key}={value}" for key, value in named.items() if value is not None]
    found += [] if attacks is None else [f"audit.attacks=[{attacks.replace(' ', '')}]"]
    given = [name for name in ("experiment", "model", "benchmark", "method", "mode") if chosen.values.get(name)]
    if runs and (other := given or [word for word in typed if not word.startswith(OPEN)]):
        told = f"{other[0]} cannot be combined with a finished RUN, which keeps its own configuration"
        raise UserError(told, f"unierase audit {runs[0]}")
    if not runs and "method" not in given and not any(word.startswith("method=") for word in typed):
        # A model that is named without a method is looked at as it is.
        typed = [*typed, "method=none"]
    wishes = chosen.wishes([*found, *typed])
    made: list[Artefact] = []
    for run in [*runs] if runs else [None]:
        asked = _Asked(context.obj, run, control, ceiling, wishes.words)
        finish = (lambda artefact, pipeline: made.append(artefact)) if len(runs) > 1 else None
        stage_command(context.obj, "audit", wishes, _make, "audit", settle=asked.settled, begin=asked.begin, finish=finish)
    if made:
        _show_together(context.obj, made, wishes)


def _show_together(journal: Journal, made: Sequence[Artefact], wishes: Wishes) -> None:
    """One table and one picture over several runs' audits."""
    from unierase_cli.cli.outcome import outcome, show_outcome
    from unierase_cli.cli.render import emit_json
    from unierase_cli.results.audits.together import together
    from unierase_cli.store.artefacts import Store

    store, force = Store(journal.outputs), "run.force=true" in wishes.words
    artefact = together(store, made, reporter=journal.reporter, command=["unierase", *sys.argv[1:]], force=force)
    if wishes.json:
        emit_json(outcome(artefact, store))
    else:
        show_outcome(journal.reporter.console, artefact, store)


def _make(pipeline: Pipeline) -> Artefact:
    from unierase_cli.cli.amounts import size
    from unierase_cli.cli.tables import told_seconds
    from unierase_cli.estimate.of_plan import plan_needs
    from unierase_cli.pipeline.stage import load_stage

    needs = plan_needs(pipeline.study, pipeline.plan("audit"))
    if needs.seconds:
        most = max(needs.memory[stage] for stage in needs.seconds)
        pipeline.reporter.note(f"estimated: {told_seconds(needs)}, {size(most)} of memory")
    # All of it is what the command is for, so that --no-chain makes it.
    for request in load_stage("audit").needs(pipeline.study, {}).values():
        pipeline.make(request.stage, **request.values)
    return pipeline.make("audit")


class _Asked:
    """What the command line says beside the configuration: a finished run, and models by name."""

    def __init__(
        self, journal: Journal, run: str | None, control: str | None, ceiling: str | None, words: Sequence[str]
    ) -> None:
        self.journal, self.run, self.control, self.ceiling, self.words = journal, run, control, ceiling, words
        self.found: dict[str, Artefact] = {}

    def settled(self, experiment: Experiment) -> Experiment:
        """The experiment that is audited: the run's own, with what the command says of the audit."""
        from unierase_cli.pipeline.recorded_files import own_benchmark
        from unierase_cli.stages.shared.audited import FACTS, with_control
        from unierase_cli.stages.shared.audited_run import as_recorded, find_model, made_of, named_model
        from unierase_cli.store.artefacts import Store

        store = Store(experiment.run.outputs)
        models = {"control": self.control, "ceiling": self.ceiling}
        named: dict[str, Any] = {
            name: word if name == "control" and word == FACTS else named_model(store, word, f"--{name}")
            for name, word in models.items()
            if word is not None
        }
        experiment = replace(experiment, audit=replace(experiment.audit, **named))
        if self.run is not None:
            self.found = made_of(store, find_model(store, self.run))
            named_keys = [f"audit.{name}={path}" for name, path in named.items()]
            experiment = as_recorded(self.found, experiment, [*self.words, *named_keys])
            experiment = own_benchmark(self.found["erase"], experiment, self.journal.reporter)
        return with_control(experiment, self.journal.reporter)

    def begin(self, pipeline: Pipeline) -> None:
        """Let the run's own artefacts be those that are attacked, whatever has changed since."""
        from unierase_cli.pipeline.stage import Request

        for stage in ("finetune", "erase"):
            if stage in self.found:
                pipeline.take(Request(stage), self.found[stage])
