"""Shows the result of a stage: metrics and example answers if it has any, else its summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unierase_cli.cli.amounts import duration, moment
from unierase_cli.cli.tables import pairs_table, show
from unierase_cli.store.json_text import read_as

if TYPE_CHECKING:
    from rich.console import Console

    from unierase_cli.results.table import Table
    from unierase_cli.store.artefact import Artefact
    from unierase_cli.store.artefacts import Store

AUDIT, AUDITS = "audit.json", "audits.json"
METRICS, COMPARISON, LEADERBOARD = "metrics.json", "comparison.json", "leaderboard.json"
COMPARE_AGAIN = "unierase report RUN RUN --force makes it again"
# Files to read next: pages, and the texts that artefacts of older versions have in their place.
REPORT = ("report.html", "report.md", "attribution.html")
COMPARED = ("comparison.html", "comparison.md")
AUDITED, ALL_AUDITED = ("audit.html", "audit.md"), ("audits.html", "audits.md")
# Extra results of the sequential and the precise mode.
STEPS, PRECISE = "steps.json", "precise.json"
# Of `unierase trace`.
TRACE = "trace.json"
# Number of answers shown in the terminal and their length in characters; the report shows more and does not shorten
# them.
SHOWN, WIDTH = 4, 240


def as_data(artefact: Artefact) -> dict[str, Any]:
    """The JSON fields that every command prints for an artefact."""
    return {"stage": artefact.stage, "name": artefact.name, "path": str(artefact.path), "key": artefact.key}


def outcome(artefact: Artefact, store: Store) -> dict[str, Any]:
    """A command's JSON result: the artefact, its summary, and the scores that it has or was made from."""
    if artefact.has(COMPARISON):
        return {**as_data(artefact), "summary": artefact.manifest.get("summary"), **read_comparison(artefact)}
    if artefact.has(LEADERBOARD):
        again = "unierase leaderboard RUN RUN --force makes it again"
        return {**as_data(artefact), **read_as(artefact.file(LEADERBOARD), dict[str, Any], again)}
    if artefact.has(AUDIT):
        from unierase_cli.results.audits.together import read_audit

        return {**as_data(artefact), "audit": read_audit(artefact).to_json()}
    if artefact.has(AUDITS):
        again = "unierase audit RUN RUN --force makes it again"
        return {**as_data(artefact), "audits": read_as(artefact.file(AUDITS), list[dict[str, Any]], again)}
    scored = scores_of(artefact, store)
    found = {**as_data(artefact), "summary": artefact.manifest.get("summary")}
    if scored is not None:
        from unierase_cli.results.runs import read_scores

        found["metrics"] = read_scores(scored).table()
        found["warnings"] = _warnings(artefact, scored)
    if artefact.has(TRACE):
        found["trace"] = read_as(artefact.file(TRACE), dict[str, Any], "unierase trace --force makes it again")
    for name in (STEPS, PRECISE):
        holder = holder_of(artefact, store, name)
        if holder is not None:
            found[name.partition(".")[0]] = read_as(holder.file(name), dict[str, Any], "unierase eval --force makes it again")
    return found


def finals(artefact: Artefact, store: Store) -> tuple[dict[str, float], list[Path]]:
    """What a tracker gets at the end: every available metric of both models by name, and the report's page and text."""
    from unierase_cli.results.runs import read_scores

    scored = scores_of(artefact, store)
    states = read_scores(scored).states if scored is not None else {}
    values = {f"{state}/{name}": m.value for state, found in states.items() for name, m in found.items() if m.value is not None}
    return values, [artefact.file(name) for name in REPORT if artefact.has(name)]


def show_outcome(console: Console, artefact: Artefact, store: Store, *, everything: bool = False) -> None:
    """Show the tables of scores and some answers before and after, or the summary of an artefact without scores.

    ``everything`` adds the tables of all numbers.
    """
    if artefact.has(COMPARISON):
        show_comparison(console, artefact)
        return
    if artefact.has(LEADERBOARD):
        show_leaderboard(console, artefact)
        return
    if artefact.has(TRACE):
        show_trace(console, artefact)
    if artefact.has(AUDIT):
        show_audit(console, artefact, everything=everything)
        return
    if artefact.has(AUDITS):
        show_audits(console, artefact)
        return
    scored, of_mode = scores_of(artefact, store), _mode_tables(artefact, store)
    if scored is None:
        summary = artefact.manifest.get("summary") or {}
        for table in of_mode:
            show(console, table)
        if summary and not of_mode:
            show(console, pairs_table(f"{artefact.stage} {artefact.name}", _flat(summary)))
        show_place(console, artefact)
        return
    from unierase_cli.results.one_run import tables as result_tables
    from unierase_cli.results.runs import read_scores

    scores = read_scores(scored)
    tables = [result_tables.headline_table(scores), *of_mode, result_tables.honesty_table(scores)]
    tables += result_tables.general_tables(scores)
    if everything:
        tables += result_tables.number_tables(scores)
    elif _asked_for_more(scored):
        tables.append(result_tables.further_table(scores))
    if scores.examples:
        tables.append(result_tables.example_table(scores, limit=SHOWN, width=WIDTH))
    for table in tables:
        if table.rows:
            show(console, table)
    for warning in _warnings(artefact, scored):
        console.print(f"warning: {warning}", style="yellow", soft_wrap=True)
    show_place(console, artefact)


def show_place(console: Console, artefact: Artefact, names: Sequence[str] = REPORT) -> None:
    """Print the path of the first of these files that the artefact has, else of its folder."""
    found = next((name for name in names if artefact.has(name)), None)
    place = str(artefact.path) if found is None else str(artefact.file(found))
    console.print(place, style="bold", soft_wrap=True)


def _asked_for_more(scored: Artefact) -> bool:
    """Whether the run configures judges or further passes, so that their numbers should be shown."""
    asked = scored.manifest.get("config", {}).get("eval", {})
    return any(asked.get(name) for name in ("passes", "encoder", "refusal_encoder", "nli", "gibberish"))


def show_comparison(console: Console, artefact: Artefact) -> None:
    """Show each mode's table, as wide as the terminal allows, with its remarks."""
    from unierase_cli.results.many_runs.comparison import Comparison
    from unierase_cli.results.many_runs.tables import CAPTION, tables

    for compared in read_as(artefact.file(COMPARISON), Comparison, COMPARE_AGAIN).tables:
        for table in tables(compared, width=console.width):
            show(console, table)
        for remark in compared.remarks:
            console.print(f"note: {remark}", soft_wrap=True)
    console.print(CAPTION, style="dim")
    show_place(console, artefact, COMPARED)


def show_leaderboard(console: Console, artefact: Artefact) -> None:
    """Each table with its remarks."""
    from unierase_cli.results.leaderboard.leaderboard import PAGE, TEXT, read_leaderboard
    from unierase_cli.results.leaderboard.tables import CAPTION, tables

    boards = read_leaderboard(artefact).tables
    for board, table in zip(boards, tables(boards, narrow=True), strict=True):
        show(console, table)
        for remark in board.remarks:
            console.print(f"note: {remark}", soft_wrap=True)
    console.print(CAPTION, style="dim")
    show_place(console, artefact, (PAGE, TEXT))


def show_trace(console: Console, artefact: Artefact) -> None:
    """The effects by block and token, and what they say."""
    from unierase_cli.results.one_run.trace_record import AGAIN, PICTURE, Trace, conclusions
    from unierase_cli.results.one_run.trace_tables import CAPTION, trace_tables

    trace = read_as(artefact.file(TRACE), Trace, AGAIN)
    for table in trace_tables(trace):
        show(console, table)
    console.print(CAPTION, style="dim")
    for line in conclusions(trace):
        console.print(line, soft_wrap=True)
    console.print(str(artefact.file(PICTURE)), style="bold", soft_wrap=True)


def show_audit(console: Console, artefact: Artefact, *, everything: bool = False) -> None:
    """The verdict, each attack's headline (``everything``: all settings), examples, and what must be known."""
    from unierase_cli.results.audits.tables import attack_table, best_table, example_table, notes, sentences
    from unierase_cli.results.audits.together import read_audit

    audit = read_audit(artefact)
    tables = [attack_table(audit), *([best_table(audit), attack_table(audit, everything=True)] if everything else [])]
    for table in [*tables, example_table(audit, WIDTH)]:
        if table.rows:
            show(console, table)
    for note in notes(audit):
        console.print(f"note: {note}", soft_wrap=True)
    for sentence in sentences(audit):
        console.print(sentence, soft_wrap=True)
    console.print(audit.line, style="bold", soft_wrap=True)
    show_place(console, artefact, AUDITED)


def show_audits(console: Console, artefact: Artefact) -> None:
    """The verdicts of several runs, and the share that each attack brings back of each."""
    from unierase_cli.results.audits.tables import overview, share_table
    from unierase_cli.results.audits.together import read_audits

    audits = read_audits(artefact)
    for table in (overview(audits), share_table(audits)):
        show(console, table)
    show_place(console, artefact, ALL_AUDITED)


def show_manifest(console: Console, artefact: Artefact) -> None:
    """Show how an artefact was made."""
    manifest = artefact.manifest
    environment = manifest.get("environment", {})
    seconds, memory = manifest.get("wall_seconds", 0.0), manifest.get("peak_memory_mib") or 0.0
    pairs: list[tuple[str, Any]] = [
        ("stage", " ".join([artefact.stage, *manifest.get("options", {}).values()])),
        ("folder", artefact.path),
        ("key", artefact.key),
        ("command", " ".join(manifest.get("command", []))),
        ("finished", moment(manifest.get("finished", 0))),
        ("took", f"{duration(seconds)}, peak memory {memory:.0f} MiB"),
        ("seed", manifest.get("seed")),
        ("commit", environment.get("git_commit") or "none"),
        ("machine", ", ".join(f"{name} {value}" for name, value in manifest.get("machine", {}).items()) or "not recorded"),
    ]
    pairs += [(f"phase {n}", duration(phase["seconds"])) for n, phase in manifest.get("phases", {}).items() if "seconds" in phase]
    pairs += [(f"made from {name}", source["path"]) for name, source in manifest.get("inputs", {}).items()]
    pairs += [("warning", warning) for warning in manifest.get("warnings", [])]
    show(console, pairs_table(artefact.name, pairs))


def scores_of(artefact: Artefact, store: Store) -> Artefact | None:
    """The artefact with the scores: this one or one of its inputs."""
    return holder_of(artefact, store, METRICS)


def holder_of(artefact: Artefact, store: Store, name: str) -> Artefact | None:
    """The artefact that has the file ``name``: this one or one of its inputs; None if there is none."""
    if artefact.has(name):
        return artefact
    for found in store.inputs_of(artefact).values():
        if found is not None and found.has(name):
            return found
    return None


def _mode_tables(artefact: Artefact, store: Store) -> list[Table]:
    """The table of a sequence's steps or of facts erased one by one; empty for a batch."""
    from unierase_cli.results.one_run.precise_tables import precise_table
    from unierase_cli.results.one_run.trajectory_tables import trajectory_table
    from unierase_cli.results.runs import read_precise, read_steps

    steps, precise = (holder_of(artefact, store, name) for name in (STEPS, PRECISE))
    found = [trajectory_table(read_steps(steps))] if steps is not None else []
    return found + ([precise_table(read_precise(precise))] if precise is not None else [])


def read_comparison(artefact: Artefact) -> dict[str, Any]:
    """Read a comparison's ``comparison.json``; raises UserError if it is damaged."""
    return read_as(artefact.file(COMPARISON), dict[str, Any], COMPARE_AGAIN)


def _warnings(artefact: Artefact, scored: Artefact) -> list[str]:
    return list(dict.fromkeys([*scored.manifest.get("warnings", []), *artefact.manifest.get("warnings", [])]))


def _flat(summary: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The rows of a summary; a section gives one row per key."""
    pairs: list[tuple[str, Any]] = []
    for name, value in summary.items():
        if isinstance(value, dict):
            pairs += [(f"{name} {inner}", item) for inner, item in value.items()]
        else:
            pairs.append((name, value))
    return pairs
