"""Loads the model that a stage works on: as trained, or with an erase artefact's token and patches applied."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unierase_cli.config.counted import counted
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.evaluation import PLAIN_STOP, ProtocolConfig
from unierase_cli.config.sections.model import ModelConfig
from unierase_cli.contracts import Reporter, UserError
from unierase_cli.pipeline.machine import likely_accelerator
from unierase_cli.pipeline.stage import Request
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.gguf_files import CHAT_TEMPLATE, gguf_at, read_gguf
from unierase_cli.store.patch_files import Place, places_of, read_record, steps_in
from unierase_cli.store.unlearned import unlearning_tokens_in

if TYPE_CHECKING:
    from unierase_cli.models.load import LoadedModel

# Marks in its ``info`` a patch made from the original model instead of the model after the previous patch.
INDEPENDENT = "independent"


def model_needs(experiment: Experiment) -> dict[str, Request]:
    """The finetune artefact if this tool trains the model, else nothing."""
    if experiment.model.path is not None:
        return {}
    if experiment.train.name == "none":
        raise UserError(
            f"model={experiment.model.name} has no model.path and train=none trains nothing",
            "give model.path=FOLDER_OR_HUB_ID, or choose model=mini train=mini",
        )
    return {"finetune": Request("finetune")}


def state_needs(experiment: Experiment, state: str) -> dict[str, Request]:
    """The artefacts that a state of the model is loaded from: ``base``, or ``edited`` with its erase artefact."""
    return model_needs(experiment) | ({"erase": Request("erase")} if state == "edited" else {})


def model_fingerprints(experiment: Experiment) -> dict[str, str]:
    """Hash of the model's files (local), or its hub id and revision; empty for a model that finetune makes.

    For a GGUF file also its quantisation. Unlearning tokens of earlier runs are named, because a model with such tokens
    is asked with and without them.
    """
    if experiment.model.path is None:
        return {}
    from unierase_cli.models.fingerprint import fingerprint_model

    path = Path(experiment.model.path)
    file = gguf_at(path)
    if file is not None:
        return {"model": fingerprint_model(file), "quantisation": read_gguf(file).quantisation}
    if path.is_dir():
        tokens = unlearning_tokens_in(path)
        return {"model": fingerprint_model(path), **({"unlearning_tokens": " ".join(tokens)} if tokens else {})}
    return {"model": f"{experiment.model.path}@{experiment.model.revision or 'default branch'}"}


def has_token(experiment: Experiment, state: str) -> bool:
    """Whether a state of the model has an unlearning token, as far as that is known before it is loaded.

    Edited models count, and unedited ones whose files have the token of an earlier run; a hub model's files are not read.
    """
    path = experiment.model.path
    return state == "edited" or (path is not None and bool(unlearning_tokens_in(Path(path))))


def model_settings(experiment: Experiment) -> dict[str, Any]:
    """The settings of the model's section that affect how it computes and is asked, for artefact keys.

    ``model.dtype=auto`` is float32 on a CPU and the checkpoint's type elsewhere, so the two must not share artefacts.
    """
    model = experiment.model
    elsewhere = model.dtype == "auto" and likely_accelerator(experiment.run.device)
    return {"dtype": "auto, not on a CPU" if elsewhere else model.dtype, "attention": model.attention, **model.asking()}


def protocol_settings(experiment: Experiment) -> dict[str, Any]:
    """The settings of the protocol's section that answers depend on, for artefact keys."""
    return {**counted(experiment.protocol), "stop": stop_texts(experiment)}


def stop_texts(experiment: Experiment) -> list[str]:
    """The texts that end an answer."""
    stop = experiment.protocol.stop
    if stop is None:
        return list(PLAIN_STOP) if _asked_plainly(experiment.model) else []
    return stop


def _asked_plainly(model: ModelConfig) -> bool:
    """Whether prompts are plain.

    With ``model.prompt=auto`` the model decides: a folder or file shows it before loading, and for a hub model the id
    is in the key.
    """
    file = None if model.path is None else gguf_at(model.path)
    if model.prompt == "auto" and file is not None:
        return CHAT_TEMPLATE not in read_gguf(file).metadata
    if model.prompt != "auto" or model.path is None or not Path(model.path).is_dir():
        return model.prompt == "plain"
    settings = Path(model.path) / "tokenizer_config.json"
    told = settings.is_file() and '"chat_template"' in settings.read_text("utf-8", errors="replace")
    return not told and not any(Path(model.path).glob("*chat_template*"))


def end_answers(loaded: LoadedModel, protocol: ProtocolConfig) -> None:
    """Set the texts that end the model's answers, as the protocol says."""
    if protocol.stop is not None:
        loaded.stop_texts = tuple(protocol.stop)


def load_base(experiment: Experiment, inputs: dict[str, Artefact], reporter: Reporter) -> LoadedModel:
    """The unedited model."""
    from unierase_cli.models.load import load_model

    folder = inputs["finetune"].whole / "model" if "finetune" in inputs else None
    with reporter.phase("load model"):
        loaded = load_model(experiment.model, experiment.run, path=folder, reporter=reporter)
    end_answers(loaded, experiment.protocol)
    return loaded


def apply_erasure(loaded: LoadedModel, erasure: Path, upto: int | None = None) -> None:
    """Apply the token rows and weight changes of an erase artefact in step order, of all steps or up to and including ``upto``.

    Raises UserError if each step started from the original model, because then no model has all of them.
    """
    from unierase_cli.editing.apply import apply_patches
    from unierase_cli.editing.patch import Patch

    steps = steps_in(erasure)
    if not steps:
        raise UserError(f"{erasure} has no patch", "the artefact is damaged: make it again with --force")
    steps = [step for step in steps if upto is None or step <= upto]
    records = [read_record(erasure, step) for step in steps]
    if len(steps) > 1 and any(record.info.get(INDEPENDENT) for record in records):
        raise UserError(
            f"{erasure} has {len(steps)} edits that each start from the original model: no model has all of them",
            "use mode=batch or mode=sequential for one model, or unierase eval --mode precise to score each edit by itself",
        )
    places = [place for step, record in zip(steps, records, strict=True) for place in places_of(record, step)]
    apply_patches(loaded, (Patch.read(erasure, place) for place in _not_overwritten(erasure, places)))


def _not_overwritten(erasure: Path, places: Sequence[Place]) -> list[Place]:
    """The parts of steps that have an effect; what a later one replaces is not read (16 GB per step for an 8B model)."""
    replaced: set[str] = set()
    kept: list[Place] = []
    for place in reversed(places):
        record = read_record(erasure, *place)
        dense = set(record.dense)
        if record.tokens or record.layers or record.named or not dense or not dense <= replaced:
            kept.insert(0, place)
        replaced |= dense
    return kept


def load_edited(
    experiment: Experiment, inputs: dict[str, Artefact], reporter: Reporter, upto: int | None = None
) -> LoadedModel:
    """The model after the erase artefact in ``inputs``, or after its step ``upto``."""
    loaded = load_base(experiment, inputs, reporter)
    apply_erasure(loaded, inputs["erase"].whole, upto)
    return loaded


def check_prompt(experiment: Experiment, reporter: Reporter) -> None:
    """Raise UserError if the model's tokenizer cannot make the prompt of ``model.prompt`` and ``model.system``.

    A hub model that cannot be reached is only checked when it is loaded. Imports torch.
    """
    model = experiment.model
    if model.path is None:
        return
    from unierase_cli.models.files import read_tokenizer, resolve
    from unierase_cli.models.prompts import PromptFormatter

    source = resolve(model.path, reporter)
    try:
        tokenizer = read_tokenizer(source, model.revision if isinstance(source, str) else None)
    except UserError:
        if isinstance(source, str):
            return
        raise
    PromptFormatter(tokenizer, model.prompt, model.date, system=model.system, instruction=model.instruction)
