"""What is made of an audit's rows: every setting of every attack, on all models, with what has to be known to read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from unierase_cli.audit import scores
from unierase_cli.audit.base import ATTACKS, CHANCE, FORGET, PLAIN, RETAIN, TOKEN, TRAINED, Row, asks
from unierase_cli.audit.findings import Audit, Example, Finding
from unierase_cli.audit.mentions import entity_lines, named_entities
from unierase_cli.audit.numbers import Numbers, mean, numbers, relative_numbers
from unierase_cli.audit.verdict import DESTROYS, RECOVERED, Retained, beside_the_verdict, verdict, word_of
from unierase_cli.benchmarks.parts.shown import hides_texts
from unierase_cli.config.schema import Experiment
from unierase_cli.pipeline.stage import StageContext
from unierase_cli.stages.attack import Done
from unierase_cli.stages.shared import audited, audited_facts
from unierase_cli.stages.shared.audit_rows import Asked, of_all_models, of_split, rows_of
from unierase_cli.stages.shared.audit_series import Series

# Rows of a recovered attack that are shown.
SHOWN = 3
# Groups below which an interval over groups is rough.
FEW_GROUPS = 10


def measure(context: StageContext) -> Audit:
    """What ``audit.json`` holds, from the inputs' files."""
    study, experiment = context.study, context.experiment
    models, (made, left_out) = audited.models_of(experiment), audited.chosen(study)
    asked = {name: of_all_models(context, name, models) for name in [PLAIN, *made]}
    # Every case of these needs a token, and the loaded model turned out to have none.
    empty = [name for name in made if not asked[name][models.unlearned].cases]
    made, left_out = [name for name in made if name not in empty], left_out | dict.fromkeys(empty, audited.WHY[TOKEN])
    facts = [fact for of in models.all for fact in audited_facts.asked(study, of)]
    known = _Known(audited_facts.groups(study), named_entities(facts, entity_lines(experiment.audit.entities)))
    kept = _Kept(asked[PLAIN], models)
    findings, remarks = [], []
    for name in [PLAIN, *filter(asks, made)]:
        some, told = _findings(name, asked[name], asked[PLAIN], models, known, kept, experiment)
        findings += some
        remarks += told
    retained = Retained(kept.after, kept.before)
    kind, line = verdict([found for found in findings if found.headline], retained, experiment.audit.verdict)
    remarks += _remarks(experiment, models, findings, len(audited_facts.asked(study, models.control or models.unlearned)))
    remarks = list(dict.fromkeys(remarks))
    series = Series({name: asked[name] for name in made}, asked[PLAIN], models, known.groups)
    return Audit(
        title_of(experiment), kind, line, findings, kept.after, kept.before, left_out, remarks,
        series.curves(), series.blocks(), series.rounding(),
    )  # fmt: skip


def title_of(experiment: Experiment) -> str:
    """What is audited, in words."""
    e = experiment
    what = e.method.name if audited.models_of(e).unlearned == audited.EDITED else "the model as it is"
    return f"{what} on {e.benchmark.name} {e.benchmark.split}, {e.model.name}, seed {e.run.seed}"


@dataclass(frozen=True)
class _Known:
    """Of every fact that is asked its group, and of those that have one their entity."""

    groups: Mapping[str, str]
    entities: Mapping[str, str]


class _Kept:
    """Recall on retained questions that are asked plainly."""

    def __init__(self, plain: Asked, models: audited.Models) -> None:
        self.after = _recall(of_split(plain[models.unlearned].rows(PLAIN), RETAIN))
        self.before = None if models.ceiling is None else _recall(of_split(plain[models.ceiling].rows(PLAIN), RETAIN))


def _recall(rows: Sequence[Row]) -> float | None:
    found = scores.by_fact(rows)
    return mean(list(found.values())) if found else None


def _findings(
    name: str,
    asked: Asked,
    plain: Asked,
    models: audited.Models,
    known: _Known,
    kept: _Kept,
    experiment: Experiment,
) -> tuple[list[Finding], list[str]]:
    """Every setting of an attack, the headline first, and what has to be said of those that have no number.

    A setting whose score is recall has further entries, of the entities and of the true answers' probability; no verdict rests on
    them.
    """
    main, limits = ATTACKS.says(name, "SCORE", scores.RECALL), experiment.audit.verdict
    relative = ATTACKS.says(name, "RELATIVE", False)
    further = scores.FURTHER if main == scores.RECALL else ()
    # What no attack brings back; of a score that is an attack's own there is no such number.
    unasked = of_split(plain[models.unlearned].rows(PLAIN), FORGET)
    plainly = {score: scores.by_fact(unasked, score, 1, known.entities) for score in (scores.RECALL, *further) if further}
    findings: list[Finding] = []
    remarks: list[str] = []
    for case in asked[models.unlearned].cases.values():
        rows = {of: rows_of(asked, plain, of, case) for of in asked}
        looks = list(dict.fromkeys(row.at for row in rows[models.unlearned])) or [""]
        for at, best_of, score in product(looks, ATTACKS.says(name, "BEST_OF", (1,)), (main, *further)):
            then = {of: [row for row in some if row.at == at] for of, some in rows.items()}
            values = {of: scores.by_fact(of_split(some, FORGET), score, best_of, known.entities) for of, some in then.items()}
            parts = (case.name, at, f"best of {best_of}" if best_of > 1 else "", score if score != main else "")
            setting = ", ".join(part for part in parts if part)
            if relative:
                told = relative_numbers(values[models.unlearned], known.groups)
            else:
                control, ceiling = (None if of is None else values[of] for of in (models.control, models.ceiling))
                apart = models.control == audited.CONTROL_FACTS
                told = numbers(
                    values[models.unlearned], control, ceiling, plainly.get(score), known.groups, limits.smallest_gap, apart=apart
                )
            if told is None:
                # Of some settings there are too few samples, and most attacks have no further score; the others say so.
                remarks += [f"{name}, {setting}: no fact could be asked this way"] if best_of == 1 and score == main else []
                continue
            if guessed := scores.by_fact(of_split(then[models.unlearned], FORGET), CHANCE):
                remarks.append(f"{name}, {setting}: guessing gives {mean(list(guessed.values())):.2f}")
            # The first setting that this model can be asked in.
            headline = not findings and best_of == 1 and score == main
            findings.append(_finding(name, case, setting, headline, score, told, then, models, kept, experiment))
    return findings, remarks


def _finding(
    name: str,
    case: Done,
    setting: str,
    headline: bool,
    score: str,
    told: Numbers,
    rows: Mapping[str, Sequence[Row]],
    models: audited.Models,
    kept: _Kept,
    experiment: Experiment,
) -> Finding:
    limits, unlearned = experiment.audit.verdict, rows[models.unlearned]
    word = word_of(told.share_ci, told.share, limits)
    under = _recall(of_split(unlearned, RETAIN))
    if name != PLAIN and Retained(under, kept.after).lost(limits.destroyed):
        word = DESTROYS
    told_of = word == RECOVERED and headline and not hides_texts(experiment.benchmark)
    shown = _examples(of_split(unlearned, FORGET), rows.get(models.control or "")) if told_of else []
    return Finding(
        attack=name,
        kind=ATTACKS.says(name, "CLASS"),
        setting=setting,
        headline=headline,
        version=ATTACKS.says(name, "VERSION", 1),
        score=score,
        word=word,
        **vars(told),
        retained=under,
        trained=_recall(of_split(unlearned, TRAINED)),
        benign=bool(ATTACKS.says(name, "BENIGN", False)),
        weak=bool(ATTACKS.says(name, "WEAK", False)),
        seconds=case.seconds,
        examples=shown,
    )


def _examples(unlearned: Sequence[Row], control: Sequence[Row] | None) -> list[Example]:
    """The rows of which most comes back, each with what the control said."""
    beside = {(row.fact, row.sample): row.text for row in control or ()}
    first = [row for row in unlearned if row.sample == 0 and row.text]
    first.sort(key=lambda row: (-scores.by_fact([row]).get(row.fact, 0.0), row.fact))
    return [Example(row.question, row.reference, row.text, beside.get((row.fact, row.sample))) for row in first[:SHOWN]]


def _remarks(experiment: Experiment, models: audited.Models, findings: Sequence[Finding], asked: int) -> list[str]:
    found = []
    if models.control == audited.CONTROL_FACTS:
        found.append(
            f"the control is the unedited model, asked {asked} other facts that it never knew: no model without these facts is "
            "named, and nothing is paired with the facts that were forgotten"
        )
    if models.control is None:
        found.append(f"no model without these facts: excess and share are unavailable; {audited.make_control(experiment)}")
    if models.ceiling is None:
        found.append("no unedited model: shares are unavailable; --ceiling MODEL names it")
    groups = next((finding.groups for finding in findings if finding.attack == PLAIN), 0)
    if groups == 1:
        found.append("all facts are of one group: there are no intervals, and no attack is decided")
    elif groups < FEW_GROUPS:
        found.append(f"the facts are of {groups} groups: intervals over so few are rough")
    return found + beside_the_verdict(findings)
