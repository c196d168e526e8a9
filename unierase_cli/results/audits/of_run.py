"""The audit of a run, where there is one."""

from __future__ import annotations

from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store

AUDIT, ERASE = "audit", "erase"


def audit_of(store: Store, erase_key: str) -> Artefact | None:
    """The newest audit whose attacks were on the model of the erase artefact with this key; None where there is none."""
    for audit in reversed(store.list(AUDIT)):
        for name in audit.manifest.get("inputs", {}):
            attack = store.input_of(audit, name)
            if attack is not None and attack.manifest.get("inputs", {}).get(ERASE, {}).get("key") == erase_key:
                return audit
    return None
