"""Stage ``report``: writes a scored run as report.md and report.html with pictures, and collateral.json."""

from __future__ import annotations

import base64
import html
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unierase_cli.config.schema import Experiment
from unierase_cli.markdown import inline
from unierase_cli.pipeline.evaluation import PRECISE, TRAJECTORY, last_of_evaluation
from unierase_cli.pipeline.stage import Request, StageContext
from unierase_cli.pipeline.study import Study
from unierase_cli.results.table import Table
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.json_text import read_as, write_json

if TYPE_CHECKING:
    from unierase_cli.metrics.scores import Scores

NAME = "report"
VERSION = 4
PICTURE, COLLATERAL, COLLATERAL_PICTURE = "forgetting-retention.png", "collateral.json", "collateral.png"


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
    return found | ({TRAJECTORY: Request(TRAJECTORY)} if last == TRAJECTORY else {})


def fingerprints(study: Study, options: dict[str, str]) -> dict[str, str]:
    """The benchmark, because the collateral map needs its groups and texts, also of rows that are not scored."""
    return {"benchmark": study.benchmark.fingerprint}


def run(context: StageContext) -> dict[str, Any]:
    """Write report.md, report.html, the pictures and collateral.json; the summary has their names."""
    title, about = _title(context.experiment), _about(context)
    remarks: list[str] = []
    if PRECISE in context.inputs:
        sections = _of_single_facts(context.inputs[PRECISE])
    else:
        sections, remarks = _of_a_model(context, title)
    (context.directory / "report.md").write_text(_markdown(title, about, sections, remarks), "utf-8")
    (context.directory / "report.html").write_text(_html(title, about, sections, remarks, context.directory), "utf-8")
    pictures = [section.file for section in sections if isinstance(section, Picture)]
    beside = [COLLATERAL] if (context.directory / COLLATERAL).exists() else []
    return {"files": ["report.md", "report.html", *pictures, *beside]}


def _of_single_facts(scored: Artefact) -> list[Section]:
    """The sections for a mode that leaves no model with all edits: facts erased one by one."""
    from unierase_cli.results.one_run import precise_tables
    from unierase_cli.results.runs import read_precise
    from unierase_cli.stages import precise
    from unierase_cli.store.jsonl import read_jsonl

    facts = read_jsonl(scored.file(precise.FACTS))
    return [precise_tables.precise_table(read_precise(scored)), precise_tables.fact_table(facts)]


def _of_a_model(context: StageContext, title: str) -> tuple[list[Section], list[str]]:
    """The sections for a mode that leaves a model: before, after, and the steps between; also writes the pictures."""
    from unierase_cli.results.one_run import tables
    from unierase_cli.results.runs import read_scores

    scores = read_scores(context.inputs["score"])
    # Of many steps only the last is shown: they are similar, and each patch has its own numbers.
    patches = context.inputs["erase"].files("patch-*.json")[-1:]
    infos = [read_as(path, dict[str, Any], "make the edit again with --force") for path in patches]
    damage, untold = _collateral(context, scores, title)
    sections: list[Section] = [
        tables.headline_table(scores),
        Picture(PICTURE, "forgetting against retention"),
        *_step_by_step(context),
        tables.honesty_table(scores),
        *damage,
        *tables.general_tables(scores),
        tables.example_table(scores),
        tables.attack_table(scores),
        *tables.layer_tables(info.get("info", info) for info in infos),
        *tables.number_tables(scores),
    ]
    remarks = [*scores.warnings, *tables.notes(scores), *untold]
    _draw(scores, context.directory / PICTURE, title)
    return sections, remarks


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


def _collateral(context: StageContext, scores: Scores, title: str) -> tuple[list[Section], list[str]]:
    """Write the collateral map; returns its sections of the report, and remarks on missing parts."""
    from unierase_cli.results.one_run import collateral

    found = collateral.collateral_map(scores, context.study.benchmark)
    write_json(context.directory / COLLATERAL, found)
    if found["unavailable"]:
        return [], [f"no map of collateral damage: {found['unavailable']}"]
    collateral.draw(found, context.directory / COLLATERAL_PICTURE, title=title)
    unknown = found["unknown"]
    remarks = [f"{unknown} scored rows are not in the benchmark and not in the map of collateral damage"] if unknown else []
    return [collateral.worst_table(found), Picture(COLLATERAL_PICTURE, "collateral damage against similarity")], remarks


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


STYLE = """body{font:15px/1.45 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:.5rem 0 1.5rem}td,th{border-bottom:1px solid #ddd;padding:.3rem .7rem;text-align:left;
vertical-align:top}.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}img{max-width:100%}
@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}td,th{border-color:#444}}"""


def _html(title: str, about: Mapping[str, str], sections: list[Section], remarks: list[str], folder: Path) -> str:
    """The report as a self-contained HTML file with embedded pictures."""
    body = [f"<h1>{html.escape(title)}</h1><ul>"]
    body += [f"<li>{html.escape(name)}: {html.escape(text)}</li>" for name, text in about.items()]
    body.append("</ul>")
    for section in sections:
        body.append(_image(folder, section) if isinstance(section, Picture) else section.html())
    if remarks:
        body.append("<h3>Remarks</h3><ul>" + "".join(f"<li>{html.escape(r)}</li>" for r in remarks) + "</ul>")
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title>'
    return f"<!doctype html><html lang=en><head>{head}<style>{STYLE}</style></head><body>{''.join(body)}</body></html>\n"


def _image(folder: Path, picture: Picture) -> str:
    content = base64.b64encode((folder / picture.file).read_bytes()).decode("ascii")
    return f'<img alt="{html.escape(picture.about)}" src="data:image/png;base64,{content}">'
