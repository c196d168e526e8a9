"""Parts that are chosen by name and have no yaml: loss terms, metrics and attacks, with the first paragraph of what their files
say.
"""

from __future__ import annotations

from dataclasses import dataclass

KINDS = ("losses", "metrics", "attacks")


@dataclass(frozen=True)
class Part:
    """A loss term (``method.forget.term=NAME``), a metric (``unierase score RUN --metrics NAME``) or an attack (``unierase audit
    RUN --attacks NAME``).
    """

    name: str
    about: str


def list_parts(kind: str) -> list[Part]:
    """Every part of one of KINDS that can be found, those of other packages among them."""
    if kind == "losses":
        from unierase_cli.methods.terms.base import load_term, term_names

        return [Part(name, _about(load_term(name))) for name in term_names()]
    if kind == "attacks":
        from unierase_cli.audit.base import attack_names, load_attack

        return [Part(name, _about(load_attack(name))) for name in attack_names()]
    from unierase_cli.metrics.catalog import all_metrics

    return [Part(metric.NAME, _about(metric)) for metric in all_metrics()]


def _about(part: object) -> str:
    """The first paragraph of its text, on one line."""
    return " ".join((part.__doc__ or "").strip().split("\n\n")[0].split())
