"""The command audit: attacks on a finished run, on a run that is made first, or on a model's folder as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unierase_cli.cli.complete import complete_run, complete_run_or_word
from unierase_cli.cli.options import Chosen, runs_and_words, with_shared_options
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
        help="A finished RUN (a path, NAME@v003, the start of a key, or latest). Without RUN: the model of the configuration as "
        "it is (model.path=FOLDER), or with method=NAME after that method.",
        autocompletion=complete_run_or_word,
        show_default=False,
    ),
]
Attacks = Annotated[
    str | None, typer.Option("--attacks", metavar="A,B", help="quick, standard, thorough, or names (unierase ls attacks).")
]
Control = Annotated[
    str | None,
    typer.Option("--control", metavar="MODEL|RUN", help="A model that never had the facts.", autocompletion=complete_run),
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
    if len(runs) > 1:
        raise UserError(f"audit takes one RUN, and there are {len(runs)}", f"unierase audit {runs[0]}")
    named = {"audit.facts": facts, "audit.seed": seed}
    found = [f"{key}={value}" for key, value in named.items() if value is not None]
    found += [] if attacks is None else [f"audit.attacks=[{attacks.replace(' ', '')}]"]
    given = [name for name in ("experiment", "model", "benchmark", "method", "mode") if chosen.values.get(name)]
    asked = _Asked(context.obj, runs[0] if runs else None, control, ceiling, typed)
    if runs and (other := given or [word for word in typed if not word.startswith(OPEN)]):
        raise UserError(f"{other[0]} has no place beside a finished RUN, which has its own", f"unierase audit {runs[0]}")
    if not runs and "method" not in given and not any(word.startswith("method=") for word in typed):
        # A model that is named without a method is looked at as it is.
        typed = [*typed, "method=none"]
    wishes = chosen.wishes([*found, *typed])
    stage_command(context.obj, "audit", wishes, _make, "audit", settle=asked.settled, begin=asked.begin)


def _make(pipeline: Pipeline) -> Artefact:
    from unierase_cli.pipeline.stage import load_stage

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
        from unierase_cli.config.schema import Experiment as Recorded
        from unierase_cli.methods.traits import changes_nothing
        from unierase_cli.rerun.run_again import find_run
        from unierase_cli.stages.shared.audited import with_control
        from unierase_cli.store.artefacts import Store

        store, typed = Store(experiment.run.outputs), experiment
        if self.run is not None:
            self.found = _made_of(store, find_run(store, self.run))
            recorded = Recorded.from_json(self.found["erase"].config)
            run = replace(typed.run, seed=recorded.run.seed, threads=typed.run.threads or recorded.run.threads)
            if not any(word.startswith("run.device=") for word in self.words):
                run = replace(run, device=recorded.run.device)
            experiment = replace(recorded, audit=typed.audit, run=run)
        audit = experiment.audit
        if self.control is not None:
            audit = replace(audit, control=_model(store, self.control, "--control"))
        if self.ceiling is not None:
            audit = replace(audit, ceiling=_model(store, self.ceiling, "--ceiling"))
        elif self.run is not None and audit.ceiling is None and changes_nothing(experiment.method):
            audit = replace(audit, ceiling=_unedited(self.found))
        return with_control(replace(experiment, audit=audit), self.journal.reporter)

    def begin(self, pipeline: Pipeline) -> None:
        """Let the run's own artefacts be those that are attacked, whatever has changed since."""
        from unierase_cli.pipeline.stage import Request

        for stage in ("finetune", "erase"):
            if stage in self.found:
                pipeline.take(Request(stage), self.found[stage])


def _made_of(store: object, run: Artefact) -> dict[str, Artefact]:
    """The erase artefact of a run, and the finetune artefact if it has one. Raises UserError for what is none, or has lost it."""
    from unierase_cli.store.artefacts import Store

    assert isinstance(store, Store)
    found: dict[str, Artefact] = {}
    left = [run]
    while left:
        artefact = left.pop()
        found.setdefault(artefact.stage, artefact)
        left += [source for source in store.inputs_of(artefact).values() if source is not None]
    if "erase" not in found:
        hint = "unierase audit model.path=FOLDER audits a model as it is"
        raise UserError(f"{run.full_name} leads to no model that something was erased from", hint)
    return found


def _unedited(found: dict[str, Artefact]) -> str:
    """The folder or hub id of a run's model before anything was erased."""
    if "finetune" in found:
        return str(found["finetune"].path / "model")
    return str(found["erase"].config["model"]["path"])


def _model(store: object, word: str, option: str) -> str:
    """The model that a word means: a folder, the unedited model of a run, or a hub id."""
    from unierase_cli.methods.traits import changes_nothing
    from unierase_cli.store.artefacts import Store

    assert isinstance(store, Store)
    if (Path(word).expanduser() / "config.json").is_file():
        return str(Path(word).expanduser())
    try:
        artefact = store.resolve(word)
    except UserError:
        if word.count("/") == 1 and not word.startswith((".", "/", "~")):
            return word
        raise
    if artefact.stage == "finetune":
        return str(artefact.path / "model")
    from unierase_cli.config.schema import Experiment

    found = _made_of(store, artefact)
    if not changes_nothing(Experiment.from_json(found["erase"].config).method):
        raise UserError(
            f"{option} {word} is a run that erased something",
            "name a model, or a run with method=none; `unierase export` writes one",
        )
    return _unedited(found)
