"""What a run's audits add to its scores: UDS, Privacy and Overall as further columns, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from msgspec import structs

from unierase_cli.audit.base import PLAIN
from unierase_cli.audit.findings import Audit, Finding
from unierase_cli.audit.verdict import UDS
from unierase_cli.contracts import Measure
from unierase_cli.metrics import overall_uds
from unierase_cli.metrics.base import FORGET, OVERALL
from unierase_cli.metrics.scores import EDITED
from unierase_cli.results.audits.of_run import AUDIT, ERASE, erase_key_of, fullest
from unierase_cli.results.audits.together import read_audit
from unierase_cli.results.many_runs.against_retain import MIA
from unierase_cli.results.runs import ScoredRun, source_of
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store
from unierase_cli.store.hashing import hash_json

MEMORISATION = f"{FORGET}.{overall_uds.MEMORISATION.name}"
RELATIVE_UTILITY = f"{OVERALL}.{overall_uds.RELATIVE.name}"
DEPTH = f"{FORGET}.{UDS}"
PRIVACY = f"{FORGET}.{overall_uds.PRIVACY.name}"
# The method that erases nothing.
NOTHING = "none"
TOTAL = f"{OVERALL}.{overall_uds.OVERALL.name}"


@dataclass(frozen=True)
class Audited:
    """A run's audit with the most attacks (of several the newest), and the newest finding of UDS; None where there is none."""

    artefact: Artefact | None = None
    audit: Audit | None = None
    depth_artefact: Artefact | None = None
    depth: Finding | None = None

    @property
    def artefacts(self) -> list[Artefact]:
        """What was read."""
        return [found for found in (self.artefact, self.depth_artefact) if found is not None]


def audits_of(store: Store, runs: Sequence[ScoredRun]) -> dict[str, Audited]:
    """Run's name -> what its audits found. Raises UserError for a damaged audit."""
    known: dict[str, list[Artefact]] = {}
    for artefact in store.list(AUDIT):
        # Without a key nothing says whose audit it is.
        if key := erase_key_of(store, artefact) or _of_unedited(artefact.manifest.get("config", {})):
            known.setdefault(key, []).append(artefact)
    found = {}
    for run in runs:
        keys = (_erase_key(source_of(store, run.score, "edited")), _of_unedited(run.config))
        audits = next((known[key] for key in keys if key and key in known), [])
        found[run.name] = _together([(artefact, read_audit(artefact)) for artefact in audits])
    return found


def _erase_key(observed: Artefact | None) -> str | None:
    """The key of what was erased from an observed model."""
    key: str | None = (observed.manifest if observed else {}).get("inputs", {}).get(ERASE, {}).get("key")
    return key


def _of_unedited(config: Mapping[str, Any]) -> str:
    """What an audit and a run of an unedited model have in common: nothing was erased that could be compared. Empty for others."""
    if config.get("method", {}).get("name") != NOTHING:
        return ""
    return hash_json([config.get(section) for section in ("model", "benchmark", "train")] + [config.get("run", {}).get("seed")])


def _together(audits: Sequence[tuple[Artefact, Audit]]) -> Audited:
    if not audits:
        return Audited()
    artefact, audit = fullest(audits)
    depths = [(made, finding) for made, other in audits for finding in other.headlines() if finding.attack == UDS]
    return Audited(artefact, audit, *(depths[-1] if depths else (None, None)))


def unlike_audits(audits: Sequence[Audited]) -> list[str]:
    """A remark where audits differ in what they asked, so that their verdicts do not compare."""
    made = [(one.artefact, one.audit) for one in audits if one.artefact is not None and one.audit is not None]
    asked = [_asked(artefact, audit) for artefact, audit in made]
    found = [part for part in (asked[0] if asked else ()) if any(other[part] != asked[0][part] for other in asked)]
    if not found:
        return []
    return [f"the audits of this table differ in {' and '.join(found)}, so their verdicts and UDS are of different tests; "
            "`unierase audit RUN RUN` with the same options audits these runs alike"]  # fmt: skip


def _asked(artefact: Artefact, audit: Audit) -> dict[str, Any]:
    """What an audit's numbers depend on beside the model."""
    settings = artefact.manifest.get("config", {}).get("audit", {})
    # What one model cannot be asked is left out by name.
    attacks = {found.attack for found in audit.headlines()} | set(audit.left_out)
    facts = next((found.n for found in audit.headlines() if found.attack == PLAIN), 0)
    return {"facts": facts, "control": settings.get("control"), "attacks": attacks}


def with_aggregates(runs: Sequence[ScoredRun], audited: Mapping[str, Audited]) -> list[ScoredRun]:
    """The runs with the edited model's columns UDS, Privacy and Overall; each is unavailable, with the reason, if a part is."""
    found = []
    for run in runs:
        depth = depth_of(audited[run.name].depth)
        private = overall_uds.privacy(run.number(EDITED, MIA), depth)
        total = overall_uds.overall(run.number(EDITED, MEMORISATION), private, run.number(EDITED, RELATIVE_UTILITY))
        states = dict(run.scores.states)
        states[EDITED] = {**states.get(EDITED, {}), DEPTH: depth, PRIVACY: private, TOTAL: total}
        found.append(replace(run, scores=structs.replace(run.scores, states=states)))
    return found


def depth_of(finding: Finding | None) -> Measure:
    """UDS, 1 minus the share that the audit's finding says is still there, or the command that measures it."""
    if finding is None:
        return Measure(UDS, unavailable="no audit of it measured UDS; `unierase audit RUN --attacks uds` does")
    if finding.share is None:
        return Measure(UDS, unavailable=f"its audit has no UDS: {finding.why_no_share}")
    interval = finding.share_ci and (1 - finding.share_ci[1], 1 - finding.share_ci[0])
    return Measure(UDS, 1 - finding.share, finding.n, interval, version=finding.version, higher_is_better=True)
