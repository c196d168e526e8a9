"""Stage ``precise``: the effect of forgetting one fact on the fact, its neighbours and far facts, over all facts.

``facts.jsonl`` has a row per forgotten fact. ``precise.json`` is a ``metrics.scores.Precise``; means and intervals are
over facts (for neighbours and far facts, over each fact's mean).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from msgspec import to_builtins

from unierase_cli.contracts import Observation, UserError
from unierase_cli.pipeline.stage import Request, StageContext
from unierase_cli.pipeline.study import Study
from unierase_cli.stages.observe_facts import PARAPHRASE, read_facts
from unierase_cli.stages.shared.fact_rows import FACT, FAR, NEAR
from unierase_cli.store.json_text import write_json
from unierase_cli.store.jsonl import write_jsonl

if TYPE_CHECKING:
    from unierase_cli.metrics.scores import OverFacts

NAME = "precise"
VERSION = 2
FILE, FACTS = "precise.json", "facts.jsonl"
# A fact counts as forgotten if the ROUGE-L recall of its answer is at most this.
FORGOTTEN = 0.15
Value = Callable[[Observation], float | None]


def reads(study: Study, options: dict[str, str]) -> dict[str, Any]:
    """The versions of the metrics, and the threshold."""
    from unierase_cli.metrics import probability, rouge

    return {"metrics": {m.NAME: m.VERSION for m in (rouge, probability)}, "forgotten": FORGOTTEN}


def needs(study: Study, options: dict[str, str]) -> dict[str, Request]:
    return {"observe_facts": Request("observe_facts"), "erase": Request("erase")}


def fingerprints(study: Study, options: dict[str, str]) -> dict[str, str]:
    """The code of the metrics."""
    from unierase_cli.metrics import probability, rouge
    from unierase_cli.metrics.catalog import metric_code

    return metric_code([rouge.NAME, probability.NAME])


def run(context: StageContext) -> dict[str, Any]:
    """Write facts.jsonl and precise.json; the summary has every measure's value after the edit."""
    from unierase_cli.metrics.scores import Precise
    from unierase_cli.stages.erase import step_seconds

    base, edited = read_facts(context.inputs["observe_facts"])
    times = step_seconds(context.inputs["erase"])
    rows = [one_fact(fact, base, said, times.get(place)) for place, (fact, said) in enumerate(edited.items())]
    write_jsonl(context.directory / FACTS, rows)
    found = measures(rows)
    write_json(context.directory / FILE, to_builtins(Precise(facts=len(rows), threshold=FORGOTTEN, measures=found)))
    return {"facts": len(rows), **{measure.id: measure.after for measure in found}}


def one_fact(
    fact_id: str,
    base: Mapping[tuple[str, str], Observation],
    said: Sequence[tuple[str, Observation]],
    seconds: float | None,
) -> dict[str, Any]:
    """The row of one forgotten fact; raises UserError if the unedited model was not asked the same questions."""
    from unierase_cli.metrics.probability import answer_probability
    from unierase_cli.metrics.rouge import rouge_l_recall
    from unierase_cli.words import has_words

    def recall(o: Observation) -> float | None:
        return rouge_l_recall(o.text, o.reference) if has_words(o.reference) else None

    by_role = {role: [o for found, o in said if found == role] for role in (FACT, PARAPHRASE, NEAR, FAR)}
    (own,) = by_role[FACT]
    row: dict[str, Any] = {"fact": fact_id, "question": own.question, "true": own.reference, "answer": own.raw_text}
    row["answer_before"] = _before(base, own).text
    for role, found in by_role.items():
        row[f"{role}_rouge"] = _pair(base, found, recall)
        if role != PARAPHRASE:
            row[f"{role}_probability"] = _pair(base, found, answer_probability)
        row[f"{role}_first_unlearn"] = _share(found)
    row["forgotten"], row["paraphrase_forgotten"] = _gone(row["fact_rouge"]), _gone(row["paraphrase_rouge"])
    return {**row, "near_unchanged": _unchanged(base, by_role[NEAR]), "seconds": seconds}


def measures(rows: Sequence[Mapping[str, Any]]) -> list[OverFacts]:
    """Means over facts of every column of ``facts.jsonl``."""
    shares = (
        ("fact_first_unlearn", "fact: first token is [UNL]", True),
        ("near_first_unlearn", "neighbours: first token is [UNL]", False),
        ("far_first_unlearn", "far facts: first token is [UNL]", False),
        ("near_unchanged", "neighbours answered word for word as before", True),
    )
    pairs = (
        ("forgotten", f"facts not answered (ROUGE-L recall at most {FORGOTTEN})", True),
        ("paraphrase_forgotten", "facts not answered when asked in other words", True),
        ("fact_rouge", "fact: ROUGE-L recall", False),
        ("fact_probability", "fact: probability", False),
        ("paraphrase_rouge", "fact asked in other words: ROUGE-L recall", False),
        ("near_rouge", "neighbours: ROUGE-L recall", True),
        ("near_probability", "neighbours: probability", True),
        ("far_rouge", "far facts: ROUGE-L recall", True),
        ("far_probability", "far facts: probability", True),
    )
    found = [_of_pairs(*pair, [row[pair[0]] for row in rows]) for pair in pairs]
    return found + [_of_share(*share, [row[share[0]] for row in rows]) for share in shares]


def _of_share(name: str, title: str, better: bool, values: Sequence[Any]) -> OverFacts:
    known = [float(value) for value in values if value is not None]
    return _measure(name, title, better, None, known, known)


def _of_pairs(name: str, title: str, better: bool, values: Sequence[Mapping[str, Any] | None]) -> OverFacts:
    from unierase_cli.metrics.scores import OverFacts

    known = [value for value in values if value is not None]
    wordless = sum(value["before"] is None for value in known)
    if wordless:
        # A mean over the other facts would be over fewer facts.
        reason = f"true answers of {wordless} of {len(known)} facts have no word to compare"
        return OverFacts(id=name, title=title, higher_is_better=better, n=len(known), unavailable=reason)
    before, after = [value["before"] for value in known], [value["after"] for value in known]
    return _measure(name, title, better, before, after, [a - b for a, b in zip(after, before, strict=True)])


def _measure(
    name: str, title: str, better: bool, before: Sequence[float] | None, after: Sequence[float], spread: Sequence[float]
) -> OverFacts:
    from unierase_cli.metrics.scores import OverFacts
    from unierase_cli.metrics.statistics.bootstrap import mean_interval

    found = OverFacts(id=name, title=title, higher_is_better=better, n=len(after))
    if not after:
        found.unavailable = "no fact has a paraphrased question" if name.startswith(PARAPHRASE) else "no fact has such rows"
        return found
    found.after, found.ci95 = fmean(after), mean_interval(list(spread))
    if before:
        found.before = fmean(before)
        found.change = found.after - found.before
    return found


def _pair(
    base: Mapping[tuple[str, str], Observation], found: Sequence[Observation], value: Value
) -> dict[str, float | None] | None:
    """Means before and after over the same rows; a mean is None if a row has no value, the result is None without rows."""
    if not found:
        return None
    before, after = _mean([value(_before(base, o)) for o in found]), _mean([value(o) for o in found])
    return {"before": before, "after": after, "n": len(found)}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None


def _gone(recall: Mapping[str, float | None] | None) -> dict[str, float | None] | None:
    """Whether the answer counts as forgotten, before the edit (it may never have been known) and after."""
    if recall is None:
        return None
    values = {when: recall[when] for when in ("before", "after")}
    return {when: None if value is None else float(value <= FORGOTTEN) for when, value in values.items()}


def _share(found: Sequence[Observation]) -> float | None:
    """Share of answers that start with an unlearning token; None without rows, or if the model has no such token."""
    if not found or any(o.first_unlearn_probability is None for o in found):
        return None
    return fmean(float(o.first_is_unlearn) for o in found)


def _unchanged(base: Mapping[tuple[str, str], Observation], found: Sequence[Observation]) -> float | None:
    return fmean(float(_before(base, o).text == o.text) for o in found) if found else None


def _before(base: Mapping[tuple[str, str], Observation], o: Observation) -> Observation:
    found = base.get((o.fact_id, o.variant))
    if found is None:
        raise UserError(f"the unedited model was not asked {o.fact_id} ({o.variant})", "observe again: unierase eval --force")
    return found
