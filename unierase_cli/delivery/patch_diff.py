"""Compares the patches of two runs: each changed tensor, the unlearning tokens' rows, the facts and the settings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from unierase_cli.contracts import UserError
from unierase_cli.delivery.leaving import fact_hash, withheld
from unierase_cli.delivery.patches import Chosen, choose_steps
from unierase_cli.pipeline.passed_over import flat
from unierase_cli.store.artefact import Artefact

if TYPE_CHECKING:
    from torch import Tensor

    from unierase_cli.editing.solve import LowRank

# Settings that do not affect a patch.
ASIDE = ("run.outputs", "run.device", "run.threads", "run.force", "run.chain", "eval.", "protocol.")
MEASURES = ("norm_first", "norm_second", "norm_difference", "cosine")


def compare_patches(first: Artefact, second: Artefact, until: int | None = None) -> dict[str, Any]:
    """The differences between two erase artefacts, over the sum of all steps of each (or of those up to ``until``)."""
    sides = [choose_steps(first, until), choose_steps(second, until)]
    hashes = [_base_hashes(side) for side in sides]
    shared = hashes[0].keys() & hashes[1].keys()
    # An exported run has hashes instead of its facts' ids.
    facts = [[fact for record in side.records() for fact in record.info.get("facts", [])] for side in sides]
    marks = [{fact_hash(fact) for fact in side} for side in facts]
    totals = [_Total(side) for side in sides]
    names = list(dict.fromkeys([*totals[0].names, *totals[1].names]))
    settings = [flat(side.erasure.config) for side in sides]
    unknown = {key for side in sides for key in withheld(side.erasure)}
    keys = [
        key for key in dict.fromkeys([*settings[0], *settings[1]]) if not key.startswith(ASIDE) and key not in unknown
    ]
    return {
        "first": first.name,
        "second": second.name,
        "steps": [list(side.steps) for side in sides],
        # None: no tensor is changed by both, so it cannot be decided.
        "same_base": all(hashes[0][n] == hashes[1][n] for n in shared) if shared else None,
        "changes": [_row(name, totals[0], totals[1]) for name in names],
        "tokens": _token_rows(totals[0], totals[1]),
        "facts": {
            "first": len(facts[0]),
            "second": len(facts[1]),
            "only_first": [fact for fact in facts[0] if fact_hash(fact) not in marks[1]],
            "only_second": [fact for fact in facts[1] if fact_hash(fact) not in marks[0]],
        },
        "settings": [
            {"key": key, "first": settings[0].get(key), "second": settings[1].get(key)}
            for key in keys
            if settings[0].get(key) != settings[1].get(key)
        ],
    }


def _base_hashes(chosen: Chosen) -> dict[str, str]:
    """Parameter name -> hash of the unedited tensor. Closed-form patches name modules, other patches name parameters."""
    hashes: dict[str, str] = {}
    for record in chosen.records():
        named = {*record.dense, *record.named}
        hashes |= {n if n in named else f"{n}.weight": value for n, value in record.base_hashes.items()}
    return hashes


class _Total:
    """A run's total change: per tensor its low-rank sum or its replacement, and the last rows of every token."""

    def __init__(self, chosen: Chosen) -> None:
        from unierase_cli.editing.patch import joined

        parts: dict[str, list[LowRank]] = {}
        self.dense: dict[str, Tensor] = {}
        self.tokens: dict[tuple[str, str], Tensor] = {}
        for patch in chosen.patches():
            edited = patch.base_hashes.keys() - {*patch.dense, *patch.named}
            for name, tensor in patch.dense.items():
                parts.pop(name, None)
                self.dense[name] = tensor
            for name, change in patch.named.items():
                parts.setdefault(name, []).append(change)
            for layer, change in patch.factors.items():
                parts.setdefault(_parameter(layer, edited), []).append(change)
            rows = patch.tokens
            if rows is not None:
                for place, token in enumerate(rows.names):
                    self.tokens[token, "input"] = rows.rows_in[place]
                    if rows.rows_out is not None:
                        self.tokens[token, "output"] = rows.rows_out[place]
        self.changes = {name: joined(factors) for name, factors in parts.items()}

    @property
    def names(self) -> list[str]:
        return [*self.dense, *(name for name in self.changes if name not in self.dense)]


def _row(name: str, first: _Total, second: _Total) -> dict[str, Any]:
    """One tensor. Of replaced tensors only the difference is known, because the unedited tensor is not available."""
    from unierase_cli.editing.low_rank import inner, norm, transposed

    a, b = first.changes.get(name), second.changes.get(name)
    row: dict[str, Any] = {"name": name, "rank_first": _rank(name, first), "rank_second": _rank(name, second)}
    row |= dict.fromkeys(MEASURES)
    if name in first.dense or name in second.dense:
        if name in first.dense and name in second.dense and not (a or b):
            row["norm_difference"] = float((first.dense[name].double() - second.dense[name].double()).norm())
        return row
    row["norm_first"], row["norm_second"] = (None if side is None else norm(side) for side in (a, b))
    if a is None or b is None:
        row["norm_difference"] = row["norm_first"] or row["norm_second"]
        return row
    shapes = [(side.left.shape[0], side.right.shape[0]) for side in (a, b)]
    if shapes[0] != shapes[1]:
        b = transposed(b)
        if shapes[0] != shapes[1][::-1]:
            return row
    product = inner(a, b)
    # ||A||^2 + ||B||^2 - 2 <A, B> would cancel the digits of a small difference.
    row["norm_difference"] = _distance(a, b)
    scale = row["norm_first"] * row["norm_second"]
    row["cosine"] = product / scale if scale else None
    return row


def _distance(a: LowRank, b: LowRank) -> float:
    import torch

    from unierase_cli.editing.low_rank import negated
    from unierase_cli.editing.patch import joined

    both = joined([a, negated(b)])
    _, s = torch.linalg.qr(both.left.double())
    _, t = torch.linalg.qr(both.right.double())
    return float((s @ t.T).norm())


def _token_rows(first: _Total, second: _Total) -> list[dict[str, Any]]:
    found = []
    for token, role in dict.fromkeys([*first.tokens, *second.tokens]):
        a, b = (side.tokens.get((token, role)) for side in (first, second))
        row: dict[str, Any] = {"token": token, "row": role, **dict.fromkeys(MEASURES)}
        row["norm_first"], row["norm_second"] = (
            None if side is None else float(side.double().norm()) for side in (a, b)
        )
        if a is not None and b is not None and a.shape == b.shape:
            row["norm_difference"] = float((a.double() - b.double()).norm())
            row["cosine"] = float(a.double() @ b.double()) / max(row["norm_first"] * row["norm_second"], 1e-300)
        found.append(row)
    return found


def _rank(name: str, side: _Total) -> int | str | None:
    if name in side.dense:
        return "replaced"
    return side.changes[name].left.shape[1] if name in side.changes else None


def _parameter(layer: int, edited: Iterable[str]) -> str:
    """Parameter name of a layer's projection, found among the modules that the closed form ``edited``."""
    for name in edited:
        if f".{layer}." in name:
            return f"{name}.weight"
    raise UserError(f"the patch has no base hash of layer {layer}", "it is damaged: make the edit again with --force")
