"""The audit of a run, where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store

if TYPE_CHECKING:
    from unierase_cli.audit.findings import Audit

AUDIT, ERASE = "audit", "erase"


def audit_of(store: Store, erase_key: str) -> Artefact | None:
    """The audit (``fullest``) of the model of the erase artefact with this key; None where there is none.

    Raises UserError for a damaged audit.
    """
    found = [audit for audit in store.list(AUDIT) if erase_key_of(store, audit) == erase_key]
    if not found:
        return None
    from unierase_cli.results.audits.together import read_audit

    return fullest([(audit, read_audit(audit)) for audit in found])[0]


def erase_key_of(store: Store, audit: Artefact) -> str | None:
    """The key of the erase artefact whose model any of the audit's attacks was on; None for an audit of an unedited model."""
    for attack in store.inputs_of(audit).values():
        key: str | None = (attack.manifest if attack else {}).get("inputs", {}).get(ERASE, {}).get("key")
        if key:
            return key
    return None


def fullest(audits: Sequence[tuple[Artefact, Audit]]) -> tuple[Artefact, Audit]:
    """Of at least one audit of a model the one that is shown: with the most attacks, then the newest."""
    return max(audits, key=lambda pair: (len(pair[1].headlines()), pair[0].order))
