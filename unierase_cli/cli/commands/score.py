"""The score command: scores recorded answers again, of one configuration, finished runs, or logs of other code bases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unierase_cli.cli.complete import complete_run_or_word
from unierase_cli.cli.options import Chosen, Wishes, runs_and_words, with_shared_options
from unierase_cli.cli.render import emit_json
from unierase_cli.cli.session import Journal, compose_for, stage_command
from unierase_cli.contracts import UserError

if TYPE_CHECKING:
    from unierase_cli.pipeline.pipeline import Pipeline
    from unierase_cli.store.artefact import Artefact
    from unierase_cli.store.artefacts import Store

STATES = ("edited", "base")


Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="RUN|KEY=VALUE",
        help="Without RUN: make and keep the score of one configuration (see unierase ls keys). "
        "RUNs (a path, NAME@v003, the start of a key, latest, or a pattern): "
        "score these finished runs again from their recorded answers; nothing is kept.",
        autocompletion=complete_run_or_word,
        show_default=False,
    ),
]
Metrics = Annotated[
    str | None, typer.Option("--metrics", metavar="NAME,NAME", help="With RUN: compute and show only these metrics.")
]
Folder = Annotated[
    Path | None,
    typer.Option(
        "--open-unlearning",
        metavar="FOLDER",
        help="With one RUN: write its TOFU_EVAL.json and TOFU_SUMMARY.json there.",
    ),
]
State = Annotated[
    str | None,
    typer.Option("--state", metavar="edited|base", help="The model that --open-unlearning writes (default: edited)."),
]
TofuLog = Annotated[
    Path | None,
    typer.Option(
        "--tofu-log", metavar="LOG", help="Score an eval_log_aggregated.json of TOFU or closer-look; nothing is kept."
    ),
]
RetainLog = Annotated[
    Path | None,
    typer.Option("--retain-log", metavar="LOG", help="With --tofu-log: the retain model's log, for forget quality."),
]


@with_shared_options()
def score(
    context: typer.Context,
    chosen: Chosen,
    words: Words = None,
    metrics: Metrics = None,
    open_unlearning: Folder = None,
    state: State = None,
    tofu_log: TofuLog = None,
    retain_log: RetainLog = None,
) -> None:
    runs, typed = runs_and_words(words)
    wishes = chosen.wishes(typed)
    _check(runs, wishes, metrics, open_unlearning, state, tofu_log, retain_log)
    if tofu_log is not None:
        score_log(context.obj, tofu_log, retain_log, wishes.json)
    elif open_unlearning is not None:
        export(context.obj, runs[0], open_unlearning, state or STATES[0], wishes)
    elif runs:
        rescore_runs(context.obj, runs, metrics, wishes)
    else:
        stage_command(context.obj, "score", wishes, _make, "score")


def score_log(journal: Journal, log: Path, retain: Path | None, as_json: bool) -> None:
    """Score another code base's log."""
    from unierase_cli.results.log_tables import log_tables, reasons, score_logs, summary_of

    known = summary_of(log)
    if known is not None:
        _show_summary(journal, log, known, as_json)
        return
    scores = score_logs(log, retain)
    if as_json:
        emit_json(scores.to_json())
        return
    from unierase_cli.cli.tables import show

    console = journal.reporter.console
    for table in log_tables(scores):
        show(console, table)
    for text in reasons(scores):
        console.print(text, soft_wrap=True)


def _show_summary(journal: Journal, log: Path, known: dict[str, float], as_json: bool) -> None:
    """Show open-unlearning's summary as it is; it has no rows to compute anything from."""
    if as_json:
        emit_json({"log": str(log), "format": "open-unlearning summary", "aggregates": known})
        return
    from unierase_cli.cli.tables import show
    from unierase_cli.results.log_tables import summary_table

    show(journal.reporter.console, summary_table(log, known))


def rescore_runs(journal: Journal, runs: Sequence[str], metrics: str | None, wishes: Wishes) -> None:
    """Score finished runs from their recorded answers."""
    from unierase_cli.stages.shared.rescore import check_names, rescore

    names = None if metrics is None else [name.strip() for name in metrics.split(",") if name.strip()]
    if names is not None:
        check_names(names)  # before looking for the runs, so that a typo is reported at once
    store, changes = _store(journal, wishes)
    made = rescore(store, runs, reporter=journal.reporter, changes=changes, names=names)
    from unierase_cli.cli.outcome import as_data
    from unierase_cli.cli.tables import show
    from unierase_cli.results.one_run import tables as result_tables

    if wishes.json:
        emit_json([{**as_data(r.score), "metrics": r.scores.table(), "warnings": r.scores.warnings} for r in made])
        return
    console = journal.reporter.console
    for run in made:
        console.print(run.score.full_name, style="bold", soft_wrap=True)
        tables = [result_tables.headline_table(run.scores), result_tables.honesty_table(run.scores)]
        if names is not None:
            tables = [*result_tables.number_tables(run.scores), tables[1]]
        for table in tables:
            if table.rows:
                show(console, table)
        for text in result_tables.notes(run.scores) if names is not None else []:
            console.print(f"n/a: {text}", soft_wrap=True)


def export(journal: Journal, run: str, folder: Path, state: str, wishes: Wishes) -> None:
    """Write a run's numbers in open-unlearning's format."""
    from unierase_cli.stages.shared.rescore import write_open_unlearning

    force = "run.force=true" in wishes.words
    store, changes = _store(journal, wishes, allowed=("run.force",))
    made = write_open_unlearning(
        store, run, folder, state=state, reporter=journal.reporter, changes=changes, overwrite=force
    )
    if wishes.json:
        emit_json(made)
        return
    from unierase_cli.cli.tables import pairs_table, show

    console = journal.reporter.console
    show(console, pairs_table(f"{made['run']}, {state} model", made["summary"].items()))
    for name, reason in made["left_out"].items():
        console.print(f"left out: {name}: {reason}", soft_wrap=True)
    for note in made["notes"]:
        console.print(f"note: {note}", soft_wrap=True)
    for path in made["files"]:
        console.print(path, style="bold", soft_wrap=True)


def _check(
    runs: Sequence[str],
    wishes: Wishes,
    metrics: str | None,
    folder: Path | None,
    state: str | None,
    tofu_log: Path | None,
    retain_log: Path | None,
) -> None:
    """Raise UserError for options that do not go together."""
    if retain_log is not None and tofu_log is None:
        raise UserError(
            "--retain-log goes with --tofu-log", "for runs of this tool set eval.retain_reference=FOLDER"
        )
    if tofu_log is not None:
        others = [*runs, *wishes.words, *(["--metrics"] if metrics else []), *(["--open-unlearning"] if folder else [])]
        if others:
            raise UserError(f"{others[0]} does not go with --tofu-log", f"leave out {others[0]}")
    if state is not None and state not in STATES:
        raise UserError(f"--state {state} is not a model state", "choose edited or base")
    if state is not None and folder is None:
        raise UserError("--state goes with --open-unlearning", "add --open-unlearning FOLDER")
    if folder is not None and len(runs) != 1:
        raise UserError(
            f"--open-unlearning takes one RUN, not {len(runs)}", "unierase score latest --open-unlearning FOLDER"
        )
    if folder is not None and metrics is not None:
        raise UserError("--metrics does not go with --open-unlearning", "leave out --metrics")
    if metrics is not None and not runs:
        raise UserError("--metrics goes with RUN", f"unierase score latest --metrics {metrics}")
    if (runs or tofu_log is not None) and (wishes.print_config or wishes.dry_run):
        option = "--print-config" if wishes.print_config else "--dry-run"
        raise UserError(f"{option} does not go with a RUN or a log: nothing is composed or kept", f"leave out {option}")


def _store(journal: Journal, wishes: Wishes, allowed: Sequence[str] = ()) -> tuple[Store, dict[str, Any]]:
    """The store and the changes to the recorded configurations; raises UserError for keys that cannot change."""
    from unierase_cli.stages.shared.rescore import CHANGES
    from unierase_cli.store.artefacts import Store

    keys = [word.lstrip("+").partition("=")[0] for word in wishes.words]
    for word, key in zip(wishes.words, keys, strict=True):
        if key not in ("run.outputs", *allowed, *CHANGES):
            raise UserError(
                f"{word} does not go with RUN: a finished run is scored as it was configured",
                f"leave it out; the keys that can change are {', '.join(CHANGES)}",
            )
    typed = compose_for(journal, wishes)
    changes = {key: getattr(getattr(typed, key.split(".")[0]), key.split(".")[1]) for key in keys if key in CHANGES}
    return Store(typed.run.outputs), changes


def _make(pipeline: Pipeline) -> Artefact:
    return pipeline.make("score")
