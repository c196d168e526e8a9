"""What came of a stage: its metrics and example answers if it has any, else its summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from unierase_cli.cli.amounts import duration, moment
from unierase_cli.cli.tables import pairs_table, show
from unierase_cli.contracts import UserError
from unierase_cli.store.json_text import read_as

if TYPE_CHECKING:
    from rich.console import Console

    from unierase_cli.audit.findings import Audit
    from unierase_cli.results.table import Table
    from unierase_cli.store.artefact import Artefact
    from unierase_cli.store.artefacts import Store

AUDIT, AUDITED = "audit.json", "audit.md"
METRICS, COMPARISON = "metrics.json", "comparison.json"
COMPARE_AGAIN = "unierase report RUN RUN --force makes it again"
# Where to read on.
REPORT, COMPARED = "report.md", "comparison.md"
# What a mode adds: requests one after another, facts one by one.
STEPS, PRECISE = "steps.json", "precise.json"
# Answers shown in the terminal, and their characters; the report has more, and whole ones.
SHOWN, WIDTH = 4, 240


def as_data(artefact: Artefact) -> dict[str, Any]:
    """What every command says about an artefact in JSON."""
    return {"stage": artefact.stage, "name": artefact.name, "path": str(artefact.path), "key": artefact.key}


def outcome(artefact: Artefact, store: Store) -> dict[str, Any]:
    """The machine-readable result of a command: the artefact, its summary, and the scores if it has or was made from some."""
    if artefact.has(COMPARISON):
        return {**as_data(artefact), "summary": artefact.manifest.get("summary"), **read_comparison(artefact)}
    if artefact.has(AUDIT):
        return {**as_data(artefact), "audit": read_audit(artefact).to_json()}
    scored = scores_of(artefact, store)
    found = {**as_data(artefact), "summary": artefact.manifest.get("summary")}
    if scored is not None:
        from unierase_cli.results.runs import read_scores

        found["metrics"] = read_scores(scored).table()
        found["warnings"] = _warnings(artefact, scored)
    for name in (STEPS, PRECISE):
        holder = holder_of(artefact, store, name)
        if holder is not None:
            found[name.partition(".")[0]] = read_as(holder.file(name), dict[str, Any], "unierase eval --force makes it again")
    return found


def show_outcome(console: Console, artefact: Artefact, store: Store, *, everything: bool = False) -> None:
    """The tables of scores and some answers before and after; for an artefact without scores, its summary.

    ``everything`` adds the tables of all numbers.
    """
    if artefact.has(COMPARISON):
        show_comparison(console, artefact)
        return
    if artefact.has(AUDIT):
        show_audit(console, artefact, everything=everything)
        return
    scored, of_mode = scores_of(artefact, store), _mode_tables(artefact, store)
    if scored is None:
        summary = artefact.manifest.get("summary") or {}
        for table in of_mode:
            show(console, table)
        if summary and not of_mode:
            show(console, pairs_table(f"{artefact.stage} {artefact.name}", _flat(summary)))
        _print_place(console, artefact)
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
    _print_place(console, artefact)


def _print_place(console: Console, artefact: Artefact) -> None:
    """Where to read on: the report, or the artefact's folder."""
    place = artefact.file(REPORT) if artefact.has(REPORT) else str(artefact.path)
    console.print(str(place), style="bold", soft_wrap=True)


def _asked_for_more(scored: Artefact) -> bool:
    """Whether the run names judges or further passes: who asks for them wants to see what they say."""
    asked = scored.manifest.get("config", {}).get("eval", {})
    return any(asked.get(name) for name in ("passes", "encoder", "refusal_encoder", "nli", "gibberish"))


def show_comparison(console: Console, artefact: Artefact) -> None:
    """The tables of each mode as wide as the terminal allows, with their remarks."""
    from unierase_cli.results.many_runs.comparison import Comparison
    from unierase_cli.results.many_runs.tables import CAPTION, tables

    for compared in read_as(artefact.file(COMPARISON), Comparison, COMPARE_AGAIN).tables:
        for table in tables(compared, width=console.width):
            show(console, table)
        for remark in compared.remarks:
            console.print(f"note: {remark}", soft_wrap=True)
    console.print(CAPTION, style="dim")
    console.print(str(artefact.file(COMPARED)), style="bold", soft_wrap=True)


def read_audit(artefact: Artefact) -> Audit:
    """``audit.json`` of an audit. Raises UserError when it is damaged."""
    from unierase_cli.audit.findings import Audit

    again = "unierase audit with --force makes it again"
    try:
        return Audit.from_json(read_as(artefact.file(AUDIT), dict[str, Any], again))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{artefact.file(AUDIT)} is damaged: {error}", again) from error


def show_audit(console: Console, artefact: Artefact, *, everything: bool = False) -> None:
    """The verdict, each attack's headline (``everything``: all settings), examples, and what must be known."""
    from unierase_cli.results.audits.tables import attack_table, best_table, example_table, notes, sentences

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
    console.print(str(artefact.file(AUDITED)), style="bold", soft_wrap=True)


def show_manifest(console: Console, artefact: Artefact) -> None:
    """How an artefact was made."""
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
    """The artefact with the scores: itself, or what it was made from."""
    return holder_of(artefact, store, METRICS)


def holder_of(artefact: Artefact, store: Store, name: str) -> Artefact | None:
    """The artefact that has a file: itself, or what it was made from."""
    if artefact.has(name):
        return artefact
    for found in store.inputs_of(artefact).values():
        if found is not None and found.has(name):
            return found
    return None


def _mode_tables(artefact: Artefact, store: Store) -> list[Table]:
    """The table of a sequence's steps, or of facts that were forgotten one by one; none for a batch."""
    from unierase_cli.results.one_run.precise_tables import precise_table
    from unierase_cli.results.one_run.trajectory_tables import trajectory_table
    from unierase_cli.results.runs import read_precise, read_steps

    steps, precise = (holder_of(artefact, store, name) for name in (STEPS, PRECISE))
    found = [trajectory_table(read_steps(steps))] if steps is not None else []
    return found + ([precise_table(read_precise(precise))] if precise is not None else [])


def read_comparison(artefact: Artefact) -> dict[str, Any]:
    """``comparison.json`` of a comparison. Raises UserError when it is damaged."""
    return read_as(artefact.file(COMPARISON), dict[str, Any], COMPARE_AGAIN)


def _warnings(artefact: Artefact, scored: Artefact) -> list[str]:
    return list(dict.fromkeys([*scored.manifest.get("warnings", []), *artefact.manifest.get("warnings", [])]))


def _flat(summary: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """A summary's rows; a section becomes one row per key."""
    pairs: list[tuple[str, Any]] = []
    for name, value in summary.items():
        if isinstance(value, dict):
            pairs += [(f"{name} {inner}", item) for inner, item in value.items()]
        else:
            pairs.append((name, value))
    return pairs
