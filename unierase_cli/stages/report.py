"""Stage ``report``: a scored run as report.md with pictures, as the page report.html, and collateral.json.

An audit of the run is shown where there is one: the report is then made again.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unierase_cli.benchmarks.parts.shown import hides_texts, texts_fingerprint
from unierase_cli.config.schema import Experiment
from unierase_cli.markdown import inline
from unierase_cli.methods.traits import changes_nothing
from unierase_cli.pipeline.evaluation import PRECISE, TRAJECTORY, last_of_evaluation
from unierase_cli.pipeline.stage import Request, StageContext
from unierase_cli.pipeline.study import Study
from unierase_cli.results.audits.of_run import AUDIT, audit_of
from unierase_cli.results.table import Table
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store
from unierase_cli.store.json_text import read_as, write_json

if TYPE_CHECKING:
    from unierase_cli.metrics.scores import Scores

NAME = "report"
VERSION = 6
TEXT, PAGE = "report.md", "report.html"
PICTURE, COLLATERAL, COLLATERAL_PICTURE = "forgetting-retention.png", "collateral.json", "collateral.png"
STATES = ("base", "edited")


@dataclass(frozen=True)
class Picture:
    """A PNG in the report's folder, and its caption."""

    file: str
    about: str


Section = Table | Picture


def reads(study: Study, options: dict[str, str]) -> dict[str, Any]:
    """The parts of the configuration that the report names; the keys of its inputs cover its numbers."""
    return {"title": _title(study.experiment), "about": _chosen(study.experiment)}


def needs(study: Study, options: dict[str, str]) -> dict[str, Request]:
    last = last_of_evaluation(study)
    if last == PRECISE:
        return {PRECISE: Request(PRECISE), "erase": Request("erase")}
    found = {"score": Request("score"), "erase": Request("erase")}
    found |= {state: Request("observe", (("state", state),)) for state in STATES}
    return found | ({TRAJECTORY: Request(TRAJECTORY)} if last == TRAJECTORY else {})


def also(store: Store, keys: Mapping[str, str]) -> dict[str, Artefact]:
    """The audit of this run's model, of several the one that the leaderboard takes."""
    found = audit_of(store, keys["erase"])
    return {} if found is None else {AUDIT: found}


def fingerprints(study: Study, options: dict[str, str]) -> dict[str, str]:
    """The benchmark, because the collateral map needs its groups and texts, also of rows that are not scored."""
    return {"benchmark": study.benchmark.fingerprint, **texts_fingerprint(study.experiment.benchmark)}


def run(context: StageContext) -> dict[str, Any]:
    """Write report.md, report.html, the pictures and collateral.json; the summary has their names."""
    title, about = _title(context.experiment), _about(context)
    remarks: list[str] = []
    if PRECISE in context.inputs:
        sections, page = _of_single_facts(context, title, about)
    else:
        sections, remarks, page = _of_a_model(context, title, about)
    (context.directory / TEXT).write_text(_markdown(title, about, sections, remarks), "utf-8")
    (context.directory / PAGE).write_text(page, "utf-8")
    pictures = [section.file for section in sections if isinstance(section, Picture)]
    beside = [COLLATERAL] if (context.directory / COLLATERAL).exists() else []
    return {"files": [TEXT, PAGE, *pictures, *beside]}


def _of_single_facts(context: StageContext, title: str, about: Mapping[str, str]) -> tuple[list[Section], str]:
    """The sections and the page for a mode that leaves no model with all edits: facts erased one by one."""
    from unierase_cli.results.one_run import precise_tables
    from unierase_cli.results.page.precise_page import precise_page
    from unierase_cli.results.runs import read_precise
    from unierase_cli.stages import precise
    from unierase_cli.store.jsonl import read_jsonl

    scored = context.inputs[PRECISE]
    found, facts = read_precise(scored), read_jsonl(scored.file(precise.FACTS))
    if hides_texts(context.experiment.benchmark):
        facts = [{**row, "question": row["fact"], "true": "", "answer": "", "answer_before": ""} for row in facts]
    sections: list[Section] = [precise_tables.precise_table(found), precise_tables.fact_table(facts)]
    return sections, precise_page(title, found, facts, about=_origin(context, about), settings=_settings(context))


def _of_a_model(context: StageContext, title: str, about: Mapping[str, str]) -> tuple[list[Section], list[str], str]:
    """The sections, remarks and the page for a mode that leaves a model; also writes the pictures."""
    from unierase_cli.results.one_run import tables
    from unierase_cli.results.runs import read_scores

    scores = read_scores(context.inputs["score"])
    # Of many steps only the last is shown: they are similar, and each patch has its own numbers.
    patches = context.inputs["erase"].files("patch-*.json")[-1:]
    infos = [read_as(path, dict[str, Any], "make the edit again with --force") for path in patches]
    layers = tables.layer_tables(info.get("info", info) for info in infos)
    map_, damage, untold = _collateral(context, scores, title)
    sections: list[Section] = [
        tables.headline_table(scores),
        Picture(PICTURE, "forgetting against retention"),
        *_step_by_step(context),
        tables.honesty_table(scores),
        *damage,
        *tables.general_tables(scores),
        tables.example_table(scores),
        tables.attack_table(scores),
        *layers,
        *tables.number_tables(scores),
    ]
    remarks = [*scores.warnings, *tables.notes(scores), *untold]
    _draw(scores, context.directory / PICTURE, title)
    return sections, remarks, _page(context, title, about, scores, map_, layers, [*scores.warnings, *untold])


def _page(
    context: StageContext,
    title: str,
    about: Mapping[str, str],
    scores: Scores,
    damage: Mapping[str, Any],
    layers: list[Table],
    remarks: list[str],
) -> str:
    from unierase_cli.pipeline.observation_files import read_state
    from unierase_cli.results.audits.together import read_audit
    from unierase_cli.results.page.run_answers import answers_of
    from unierase_cli.results.page.run_page import run_page
    from unierase_cli.results.runs import read_steps

    made = context.inputs
    before, after = (read_state(made[state].whole)[1] for state in STATES)
    return run_page(
        title,
        scores,
        answers_of(scores, before, after, hidden=hides_texts(context.experiment.benchmark)),
        asked=0
        if changes_nothing(context.experiment.method)
        else sum(len(step.forget) for step in context.study.steps),
        command=f"unierase audit {made['erase'].name}",
        audit=read_audit(made[AUDIT]) if AUDIT in made else None,
        trajectory=read_steps(made[TRAJECTORY]) if TRAJECTORY in made else None,
        damage=damage,
        further=layers,
        remarks=remarks,
        about=_origin(context, about),
        settings=_settings(context),
    )


def _origin(context: StageContext, about: Mapping[str, str]) -> dict[str, str]:
    from unierase_cli.results.page.origin import origin_of

    return {**about, **origin_of(context.inputs)}


def _settings(context: StageContext) -> str:
    from unierase_cli.results.page.origin import settings_of

    return settings_of(asdict(context.experiment))


def _step_by_step(context: StageContext) -> list[Section]:
    """The trajectory's table and its picture, which is copied to the report; empty if there is no trajectory."""
    if TRAJECTORY not in context.inputs:
        return []
    from unierase_cli.results.one_run.trajectory_tables import trajectory_table
    from unierase_cli.results.runs import read_steps
    from unierase_cli.stages import trajectory

    made = context.inputs[TRAJECTORY]
    shutil.copyfile(made.whole / trajectory.PICTURE, context.directory / trajectory.PICTURE)
    about = "forgetting and retention after each request"
    return [trajectory_table(read_steps(made)), Picture(trajectory.PICTURE, about)]


def _collateral(context: StageContext, scores: Scores, title: str) -> tuple[dict[str, Any], list[Section], list[str]]:
    """Write the collateral map; returns it, its sections of report.md, and remarks on missing parts."""
    from unierase_cli.results.one_run import collateral

    found = collateral.collateral_map(scores, context.study.benchmark)
    write_json(context.directory / COLLATERAL, found)
    if found["unavailable"]:
        return found, [], [f"no map of collateral damage: {found['unavailable']}"]
    collateral.draw(found, context.directory / COLLATERAL_PICTURE, title=title)
    unknown = found["unknown"]
    remarks = (
        [f"{unknown} scored rows are not in the benchmark and not in the map of collateral damage"] if unknown else []
    )
    sections: list[Section] = [
        collateral.worst_table(found),
        Picture(COLLATERAL_PICTURE, "collateral damage against similarity"),
    ]
    return found, sections, remarks


def _title(experiment: Experiment) -> str:
    e = experiment
    return f"{e.method.name} on {e.benchmark.name} {e.benchmark.split}, {e.model.name}, {e.mode.name} mode, seed {e.run.seed}"


def _chosen(experiment: Experiment) -> dict[str, str]:
    e = experiment
    return {
        "model": e.model.path or f"{e.model.name} (trained by the finetune stage)",
        "benchmark": f"{e.benchmark.name}, split {e.benchmark.split}",
        "method": f"{e.method.name} (edit={e.edit.name}, token={e.token.name})",
        "decoding": f"greedy, at most {e.protocol.max_new_tokens} new tokens, protocol {e.protocol.name}",
    }


def _about(context: StageContext) -> dict[str, str]:
    erase, scored = context.inputs["erase"], context.inputs[PRECISE if PRECISE in context.inputs else "score"]
    return {
        **_chosen(context.experiment),
        "erase artefact": f"{erase.name}, key {erase.key[:12]}, {erase.manifest.get('wall_seconds', 0.0):.0f} s",
        f"{scored.stage} artefact": f"{scored.name}, key {scored.key[:12]}",
    }


def _draw(scores: Scores, path: Path, title: str) -> None:
    from unierase_cli.results.pictures import Point, forgetting_against_retention

    points = []
    for state, label in (("base", "before"), ("edited", "after")):
        forget, retain = scores.measure(state, "forget.rouge"), scores.measure(state, "retain_unseen.rouge")
        if forget.value is not None and retain.value is not None:
            points.append(Point(label, forget.value, retain.value, forget.ci95, retain.ci95))
    forbidden = scores.measure("edited", "forget.unlearn_forbidden.leak")
    if forbidden.value is not None and points:
        points.append(Point("after, [UNL] forbidden", forbidden.value, points[-1].retain, forbidden.ci95))
    forgetting_against_retention(points, path, title=title)


def _markdown(title: str, about: Mapping[str, str], sections: list[Section], remarks: list[str]) -> str:
    lines = [f"# {inline(title)}", "", *(f"- {name}: {inline(text)}" for name, text in about.items()), ""]
    for section in sections:
        lines.append(f"![{section.about}]({section.file})\n" if isinstance(section, Picture) else section.markdown())
    if remarks:
        lines += ["### Remarks", "", *(f"- {inline(remark)}" for remark in remarks), ""]
    return "\n".join(lines)
