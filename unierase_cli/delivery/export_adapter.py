"""Exports a run's low-rank changes and token rows as a LoRA adapter, and compares its logits with the patched model's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unierase_cli.contracts import Fact, Reporter, UserError, evenly_spaced
from unierase_cli.delivery.adapter_card import adapter_card
from unierase_cli.delivery.edited_folder import RECORD, recorded_experiment
from unierase_cli.delivery.leaving import public_name, public_source, write_leaving
from unierase_cli.delivery.patches import Chosen
from unierase_cli.pipeline.study import study_of
from unierase_cli.store.new_folder import new_folder

if TYPE_CHECKING:
    from torch import Tensor

    from unierase_cli.editing.adapter import TokenRow
    from unierase_cli.editing.patch import Patch
    from unierase_cli.editing.solve import LowRank
    from unierase_cli.models.load import LoadedModel

# Number of forget prompts to compare logits on; two positions of each are kept, over the whole vocabulary.
LOOKED_AT = 200
# Largest logit difference that float32 rounding explains, as a share of the largest logit.
ROUNDING = 1e-4


def check_low_rank(chosen: Chosen) -> None:
    """Raise UserError for a run that replaced whole tensors, before anything large is loaded."""
    replaced = sum(len(record.dense) for record in chosen.records())
    if replaced:
        method = chosen.erasure.config["method"]["name"]
        raise UserError(
            f"{chosen.erasure.name} (method={method}) replaced {replaced} whole tensors, which is not a low-rank change and "
            "does not fit a LoRA adapter",
            "unierase export RUN DIR --as model, or train with adapter=lora",
        )


def export_adapter(
    loaded: LoadedModel, chosen: Chosen, destination: Path, reporter: Reporter, rank: int | None
) -> dict[str, Any]:
    """Write the adapter for the unedited model ``loaded``, reload it with peft and compare logits on forget prompts."""
    with new_folder(destination) as folder:
        record = _fill(folder, destination.resolve().name, loaded, chosen, reporter, rank)
    _tell(record, destination, reporter)
    return {**record, "destination": str(destination)}


def _fill(
    folder: Path, name: str, loaded: LoadedModel, chosen: Chosen, reporter: Reporter, rank: int | None
) -> dict[str, Any]:
    """Write tokenizer, adapter, card and record; returns the record. ``name``: the folder's final name."""
    from unierase_cli.editing.adapter import content, load_adapter, write_adapter
    from unierase_cli.editing.apply import apply_patches
    from unierase_cli.models.vocabulary import add_unlearning_tokens

    experiment = recorded_experiment(chosen)
    facts = evenly_spaced(study_of(experiment).benchmark.forget, LOOKED_AT)
    patches = list(chosen.patches())
    rows = loaded.architecture.embedding.weight.shape[0]
    # The unedited tokenizer, which is the adapter's too unless it must get the tokens' names.
    loaded.tokenizer.save_pretrained(folder)
    with reporter.phase("compare"):
        applied = apply_patches(loaded, patches)
        tokens = _tokens(loaded, patches)
        own = [token.id for token in tokens]
        wanted = _logits(loaded, facts, own)
        applied.revert()
    tokenizer_grows = _place(loaded, tokens)
    adapter = content(loaded, _changes(loaded, patches), rank)
    adapter.tokens = tokens
    if tokenizer_grows:
        import torch

        # The values do not matter; the adapter has the real rows.
        add_unlearning_tokens(loaded, [token.name for token in tokens], torch.Generator().manual_seed(0))
        loaded.tokenizer.save_pretrained(folder)
    with reporter.phase("write"):
        write_adapter(loaded, adapter, folder, public_source(loaded.source, loaded.fingerprint))
    # As a user loads the adapter: untied rows of the model itself are not part of the adapter.
    with reporter.phase("compare"):
        load_adapter(loaded, folder)
        loaded.architecture.refresh_ends(loaded.model)
        error = _compare(wanted, _logits(loaded, facts, [token.id for token in tokens]), own, tokens, rows)
    record = {
        "run": public_name(chosen.erasure),
        "key": chosen.erasure.key,
        "steps": list(chosen.steps),
        "base": {"source": loaded.source, "fingerprint": loaded.fingerprint, "rows": rows},
        "rank": adapter.rank,
        "rank_of_change": max(adapter.ranks.values()),
        "kept": min(adapter.kept.values()),
        "unlearning_tokens": {token.name: token.id for token in tokens},
        "reserved_tokens": bool(tokens) and not tokenizer_grows,
        "resize_to": len(loaded.tokenizer) if tokenizer_grows and len(loaded.tokenizer) > rows else None,
        "prompts": len(facts),
        **error,
    }
    kept = write_leaving(folder / RECORD, "record", record)
    (folder / "README.md").write_text(adapter_card(kept, name), "utf-8")
    return kept


def _changes(loaded: LoadedModel, patches: Sequence[Patch]) -> dict[str, list[LowRank]]:
    """Parameter name -> its changes in step order, [rows, columns] as the parameter is stored."""
    from transformers.pytorch_utils import Conv1D

    from unierase_cli.editing.low_rank import transposed

    found: dict[str, list[LowRank]] = {}
    for patch in patches:
        for name, change in patch.named.items():
            found.setdefault(name, []).append(change)
        for layer, change in sorted(patch.factors.items()):
            stored = isinstance(loaded.architecture.projection(layer), Conv1D)
            name = f"{loaded.architecture.projection_name(layer)}.weight"
            found.setdefault(name, []).append(transposed(change) if stored else change)
    return found


def _tokens(loaded: LoadedModel, patches: Sequence[Patch]) -> list[TokenRow]:
    """Every unlearning token of the steps, with its rows in the patched model."""
    from unierase_cli.editing.adapter import TokenRow
    from unierase_cli.models.vocabulary import get_rows

    names = {
        index: name
        for patch in patches
        if patch.tokens is not None
        for name, index in zip(patch.tokens.names, patch.tokens.ids, strict=True)
    }
    if not names:
        return []
    rows_in, rows_out = get_rows(loaded, list(names))
    return [
        TokenRow(name, index, rows_in[place].cpu(), None if rows_out is None else rows_out[place].cpu())
        for place, (index, name) in enumerate(names.items())
    ]


def _place(loaded: LoadedModel, tokens: Sequence[TokenRow]) -> bool:
    """Give the tokens their ids in the adapter.

    Reserved tokens are used if the model has enough, so that neither its matrices nor its tokenizer change. Returns
    whether the tokenizer must get the tokens under their own names instead.
    """
    from unierase_cli.models.reserved import reserved_tokens

    reserve = reserved_tokens(loaded, len(tokens)) if tokens else None
    if reserve is None:
        return bool(tokens)
    for token, index in zip(tokens, reserve, strict=True):
        token.id, token.name = index, str(loaded.tokenizer.convert_ids_to_tokens(index))
    return False


def _logits(loaded: LoadedModel, facts: Sequence[Fact], tokens: Sequence[int]) -> Tensor:
    """Logits after each forget prompt and, with unlearning tokens, after the first of them: [n, 1 or 2, V], on the CPU."""
    import torch

    found = []
    model: Any = loaded.model
    for fact in facts:
        ids = loaded.prompts.prompt(fact.question, fact.kind).ids + list(tokens[:1])
        with torch.no_grad():
            logits = model(torch.tensor([ids], device=loaded.device), use_cache=False).logits[0]
        found.append(logits[-2 if tokens else -1 :].float().cpu())
    return torch.stack(found)


def _compare(wanted: Tensor, got: Tensor, own: list[int], tokens: Sequence[TokenRow], rows: int) -> dict[str, Any]:
    """Largest logit difference; an unlearning token is compared with the token that replaces it, all others by id."""
    places = [token.id for token in tokens]
    same = [i for i in range(min(rows, got.shape[-1])) if i not in set(own) | set(places)]
    wanted = wanted[..., [*same, *own]]
    got = got[..., [*same, *places]]
    return {
        "largest_logit_error": float((wanted - got).abs().max()),
        "largest_logit": float(wanted.abs().max()),
        "same_next_token": float((wanted.argmax(-1) == got.argmax(-1)).float().mean()),
    }


def _tell(record: dict[str, Any], destination: Path, reporter: Reporter) -> None:
    exact = record["kept"] == 1.0
    kept = "" if exact else f" of {record['rank_of_change']} ({100 * record['kept']:.2f} % of the squared norm)"
    tokens = ", ".join(f"{name} ({index})" for name, index in record["unlearning_tokens"].items()) or "none"
    reporter.note(f"{destination}: LoRA adapter of rank {record['rank']}{kept}; unlearning tokens: {tokens}")
    reporter.note(
        f"largest logit error on {record['prompts']} forget prompts: {record['largest_logit_error']:.2e} (largest logit "
        f"{record['largest_logit']:.3g}); same next token at {100 * record['same_next_token']:.1f} % of the positions"
    )
    if record["resize_to"]:
        reporter.note(
            f"the model has no row for the token: AutoPeftModelForCausalLM.from_pretrained adds it automatically; before "
            f"PeftModel.from_pretrained call model.resize_token_embeddings({record['resize_to']})"
        )
    if exact and record["largest_logit_error"] > ROUNDING * max(record["largest_logit"], 1.0):
        reporter.warn("the error exceeds float32 rounding: a narrower data type rounds the two models' weights differently")
