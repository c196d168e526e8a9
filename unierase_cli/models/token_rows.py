"""Unlearning tokens as data: names, ids, rows and each fact's token; saved to disk and added to models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import torch
from torch import Tensor

from unierase_cli.contracts import UserError
from unierase_cli.models.vocabulary import add_unlearning_tokens, set_rows
from unierase_cli.store import json_text
from unierase_cli.store.json_text import decoded, write_json
from unierase_cli.store.patch_files import TokenRecord
from unierase_cli.store.tensors import check_finite, load_tensors, save_tensors

if TYPE_CHECKING:
    from unierase_cli.models.load import LoadedModel

ROWS = "rows.safetensors"
RECORD = "token.json"


@dataclass
class TokenRows:
    """A set of g unlearning tokens.

    ``rows_in``: input rows [g, h] float32. ``rows_out``: output rows [g, h] float32, None if the head is tied to the
    embedding. ``assignment``: fact id -> index of its token. ``targets``: fact id -> the refusal its token was trained
    to produce. ``info``: measurements (JSON-able).
    """

    names: list[str]
    ids: list[int]
    rows_in: Tensor
    rows_out: Tensor | None
    assignment: Mapping[str, int] = field(default_factory=dict)
    targets: Mapping[str, str] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def record(self) -> TokenRecord:
        """Everything except the rows."""
        return TokenRecord(self.names, self.ids, dict(self.assignment), dict(self.targets), self.info)

    def token_of(self, fact_id: str) -> int:
        """Id of a fact's token; facts outside the token's training get the only token.

        Raises UserError if there are several tokens to choose from.
        """
        group = self.assignment.get(fact_id, 0 if len(self.ids) == 1 else None)
        if group is None:
            raise UserError(
                f"fact {fact_id} belongs to none of the {len(self.ids)} unlearning tokens",
                "train the token on this benchmark and split (unierase train-token), or set token.groups=1",
            )
        return self.ids[group]

    def save(self, directory: Path) -> None:
        """Write ``rows.safetensors``, then ``token.json``."""
        tensors = {"rows_in": self.rows_in.float()}
        if self.rows_out is not None:
            tensors["rows_out"] = self.rows_out.float()
        check_finite(tensors.items(), "the token", "lower token.lr")
        save_tensors(directory / ROWS, tensors)
        write_json(directory / RECORD, msgspec.structs.asdict(self.record))

    @classmethod
    def load(cls, directory: Path) -> TokenRows:
        """Read what ``save`` wrote. Raises UserError if a file is missing or damaged."""
        path = directory / RECORD
        try:
            record = decoded(json_text.read_json(path, json_text.ROWS), TokenRecord)
            tensors = load_tensors(directory / ROWS)
            check_finite(tensors.items(), directory / ROWS, "make the token again with --force")
            return cls(rows_in=tensors["rows_in"], rows_out=tensors.get("rows_out"), **msgspec.structs.asdict(record))
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{path} is missing or damaged ({error})", "make the token again with --force") from error


def apply_token(loaded: LoadedModel, rows: TokenRows) -> None:
    """Add the tokens to ``loaded`` and set their rows, cast to the model's dtype; ``loaded.unlearn_ids`` lists them.

    Raises UserError if the rows belong to a model of another width or vocabulary, or another kind of head.
    """
    architecture = loaded.architecture
    other = "train the token on this model: unierase train-token"
    if rows.rows_in.shape != (len(rows.ids), architecture.hidden_size):
        width = rows.rows_in.shape[-1]
        raise UserError(f"the token has rows of width {width}, the model {architecture.hidden_size}", other)
    if (rows.rows_out is None) != architecture.tied:
        kinds = ("an untied", "a tied") if architecture.tied else ("a tied", "an untied")
        raise UserError(f"the token was trained with {kinds[0]} head, this model has {kinds[1]} one", other)
    # The random rows are overwritten below.
    ids = add_unlearning_tokens(loaded, rows.names, torch.Generator().manual_seed(0))
    if ids != list(rows.ids):
        raise UserError(f"the token's ids {rows.ids} are {ids} in this model's vocabulary", other)
    set_rows(loaded, ids, rows.rows_in, rows.rows_out)
