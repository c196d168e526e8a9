"""What a model card and an erasure report say of a run: counts, hashes, numbers and the audit's verdict, but no text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unierase_cli.contracts import UserError
from unierase_cli.delivery.leaving import GONE, names, public_name
from unierase_cli.delivery.patches import Chosen
from unierase_cli.results.audits.of_run import audit_of
from unierase_cli.results.runs import find_runs
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store
from unierase_cli.store.patch_files import read_record
from unierase_cli.store.unlearned import FORGOTTEN

if TYPE_CHECKING:
    from unierase_cli.audit.findings import Audit
    from unierase_cli.metrics.scores import Scores

SUPPRESSED = "The method leads to a refusal and leaves the facts in the weights: whoever has the weights can bring them back."
TRAINED = "The method changes the weights until the model no longer answers; traces may be left that stronger attacks find."
ALWAYS = (
    "It is measured on the questions of the run and on the attacks of its audit, and on no others.",
    "Copies of the model made before, its training data, and other models are not affected.",
    "This is not a certificate of deletion, and does not replace retraining without the data where law or contract asks for it.",
)


@dataclass(frozen=True)
class RunFacts:
    """``forgotten``: hashes of the facts, ``Fact.content_hash``; ``scores``: before and after, None where the run has none;
    ``audit``: None where there is none; ``not_promised``: sentences.
    """

    run: str
    about: dict[str, str]
    requests: int
    forgotten: list[str]
    scores: Scores | None
    audit: Audit | None
    not_promised: tuple[str, ...]


def run_facts(chosen: Chosen, store: Store) -> RunFacts:
    """Read it from the run's patches, scores and audit. Numbers and audit are of the whole run, so only of all its steps."""
    from unierase_cli.results.audits.together import read_audit

    erasure, config = chosen.erasure, chosen.erasure.config
    # Exported patches may be those of some steps; exports of older versions do not say so.
    count = erasure.summary.get("run_steps") or erasure.summary.get("steps") or 0
    whole = not chosen.dropped and not chosen.parts_dropped and len(chosen.steps) == count
    audit = audit_of(store, erasure.key) if whole else None
    scores = _scores(store, erasure) if whole else None
    forgotten = [name for step in chosen.steps for name in read_record(erasure.whole, step).info.get(FORGOTTEN, ())]
    about = {section: _name(config.get(section, {}).get("name")) for section in ("method", "benchmark", "mode")}
    about["split"] = _name(config.get("benchmark", {}).get("split"))
    method = SUPPRESSED if _suppresses(config.get("method", {}), chosen.parts_dropped) else TRAINED
    return RunFacts(
        public_name(erasure), about, len(chosen.steps), list(dict.fromkeys(forgotten)), scores,
        None if audit is None else read_audit(audit), (method, *ALWAYS),
    )  # fmt: skip


def verdict_of(facts: RunFacts) -> str:
    """The audit's verdict, or that there is none."""
    return "not audited: nobody has tried to bring the facts back" if facts.audit is None else facts.audit.line


def _suppresses(method: Mapping[str, Any], dropped: Sequence[str]) -> bool:
    """Whether the facts stay in the weights behind a refusal: there is a token, and no part that is kept trains them out."""
    parts = [part for name, part in (method.get("chain") or {}).items() if name not in dropped]
    return bool(method.get("token")) and all(part.get("editing") for part in parts)


def _scores(store: Store, erasure: Artefact) -> Scores | None:
    try:
        return find_runs(store, [str(erasure.path)])[-1].scores
    except UserError:
        return None


def _name(value: object) -> str:
    kept = names(value)
    return "withheld" if kept is GONE or kept is None else str(kept)
