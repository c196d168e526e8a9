"""Stage ``audit``: what the attacks brought back, beside the control and the unedited model, in numbers and in one line.

Reads the rows of finished attacks alone, so scores and limits may change without a model being asked again. Writes audit.json,
audit.md, the heat map, the curves of relearning and the depth by block where there are any, and the page audit.html.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from unierase_cli.audit import scores
from unierase_cli.audit.base import ATTACKS, PLAIN
from unierase_cli.audit.findings import Audit
from unierase_cli.benchmarks.parts.shown import texts_fingerprint
from unierase_cli.config.counted import counted
from unierase_cli.contracts import UserError
from unierase_cli.methods.traits import changes_nothing
from unierase_cli.metrics.catalog import metric_code
from unierase_cli.pipeline.stage import Request, StageContext
from unierase_cli.pipeline.study import Study
from unierase_cli.plugins import code_of
from unierase_cli.stages.shared import audited, audited_facts
from unierase_cli.stages.shared.audit_answers import plain_answers
from unierase_cli.stages.shared.audit_findings import measure, title_of
from unierase_cli.stages.shared.audit_rows import input_name
from unierase_cli.store.hashing import hash_json
from unierase_cli.store.json_text import write_json

NAME = "audit"
VERSION = 3
DATA, TEXT, PICTURE, PAGE = "audit.json", "audit.md", "audit.png", "audit.html"
CURVES, BLOCKS = "curves.png", "blocks.png"


def reads(study: Study, options: dict[str, str]) -> dict[str, Any]:
    """Which attacks, whose models, how texts are scored and where words change."""
    made, left_out = audited.chosen(study)
    return {
        "attacks": {name: ATTACKS.says(name, "VERSION", 1) for name in made},
        "left_out": left_out,
        "models": vars(audited.models_of(study.experiment)),
        "scores": scores.VERSIONS,
        "verdict": counted(study.experiment.audit.verdict),
        "title": title_of(study.experiment),
    }


def needs(study: Study, options: dict[str, str]) -> dict[str, Request]:
    """Plain questions and every attack, on every model that it is made on."""
    models = audited.models_of(study.experiment)
    found = {}
    for name in [PLAIN, *audited.chosen(study)[0]]:
        for of in audited.looked_at(name, models):
            found[input_name(name, of)] = Request("attack", (("attack", name), ("of", of)))
    return found


def fingerprints(study: Study, options: dict[str, str]) -> dict[str, str]:
    """The facts' groups and entities, and the code of the attacks, which say what their scores are."""
    code = code_of("attack", ATTACKS, PLAIN, *audited.chosen(study)[0])
    entities, texts = audited_facts.entities_hash(study.experiment), texts_fingerprint(study.experiment.benchmark)
    return {"groups": hash_json(audited_facts.groups(study)), "entities": entities, **code, **metric_code(["rouge"]), **texts}


def check(study: Study) -> None:
    """Raises UserError for what no audit can be made of."""
    if study.independent:
        raise UserError(
            f"mode={study.experiment.mode.name} leaves no model to attack: each fact is forgotten on its own",
            "unierase audit --mode batch",
        )
    audited.chosen(study)
    audited_facts.entities_hash(study.experiment)
    if audited.models_of(study.experiment).control == audited.CONTROL_FACTS:
        audited_facts.control_facts(study)


def run(context: StageContext) -> dict[str, Any]:
    """Write the audit's files; the summary holds the verdict."""
    from unierase_cli.results.audits.picture import heat_map
    from unierase_cli.results.audits.series_pictures import depth_by_block, relearning_curves
    from unierase_cli.results.audits.tables import markdown

    with context.reporter.phase("audit"):
        found = measure(context)
        write_json(context.directory / DATA, found.to_json())
        heat_map([found], context.directory / PICTURE)
        further = {}
        if found.curves:
            relearning_curves(found.curves, context.directory / CURVES)
            further["recall while the models relearn"] = CURVES
        if any(block.lost is not None for block in found.blocks):
            depth_by_block(found.blocks, context.directory / BLOCKS)
            further["what each block's states cost the facts"] = BLOCKS
        (context.directory / TEXT).write_text(markdown(found, PICTURE, further), "utf-8")
        (context.directory / PAGE).write_text(_page(context, found), "utf-8")
    for remark in found.remarks:
        context.reporter.warn(remark)
    return {"verdict": found.line, "kind": found.kind, "files": [DATA, TEXT, PICTURE, *further.values(), PAGE]}


def _page(context: StageContext, found: Audit) -> str:
    from unierase_cli.results.page.audit_page import audit_page
    from unierase_cli.results.page.origin import origin_of, settings_of

    models = audited.models_of(context.experiment)
    asked: int | None = len(context.study.benchmark.forget)
    if changes_nothing(context.experiment.method):
        # A model that is not its own ceiling was made elsewhere, and may be unlearned.
        asked = 0 if models.ceiling == models.unlearned else None
    settings = settings_of(asdict(context.experiment))
    return audit_page(found, plain_answers(context), asked=asked, about=origin_of(context.inputs), settings=settings)
