"""Parts that are chosen by name and have no yaml: loss terms and metrics, with the first paragraph of their docstrings."""

from __future__ import annotations

from dataclasses import dataclass

KINDS = ("losses", "metrics")


@dataclass(frozen=True)
class Part:
    """A loss term (``method.forget.term=NAME``) or a metric (``unierase score RUN --metrics NAME``)."""

    name: str
    about: str


def list_parts(kind: str) -> list[Part]:
    """Every part of a kind (see KINDS), including those of other packages."""
    if kind == "losses":
        from unierase_cli.methods.terms.base import load_term, term_names

        return [Part(name, _about(load_term(name))) for name in term_names()]
    from unierase_cli.metrics.catalog import all_metrics

    return [Part(metric.NAME, _about(metric)) for metric in all_metrics()]


def _about(part: object) -> str:
    """The first paragraph of a module's docstring, on one line."""
    return " ".join((part.__doc__ or "").strip().split("\n\n")[0].split())
