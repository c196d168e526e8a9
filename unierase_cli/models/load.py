"""A model, its tokenizer and what is known about both, ready to be read and edited."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from unierase_cli.config.sections.evaluation import PLAIN_STOP
from unierase_cli.config.sections.model import ModelConfig, RunConfig
from unierase_cli.contracts import Reporter, SilentReporter, UserError
from unierase_cli.models.architecture import Architecture, find_architecture
from unierase_cli.models.devices import check_placed, check_spreading, is_spread, placement
from unierase_cli.models.encoding import known_unlearning_tokens
from unierase_cli.models.files import read_config, read_tokenizer, read_weights, resolve
from unierase_cli.models.fingerprint import fingerprint_model
from unierase_cli.models.mlp_output import output_norm
from unierase_cli.models.prompts import PromptFormatter
from unierase_cli.models.reading import one_line
from unierase_cli.models.room import Room
from unierase_cli.store.environment import whole_number
from unierase_cli.store.gguf_files import gguf_at
from unierase_cli.store.tensors import check_finite


@dataclass
class LoadedModel:
    """A model in evaluation mode with all parameters frozen.

    ``fingerprint`` identifies the files it was loaded from. ``unlearn_ids``: unlearning tokens, including those of
    earlier runs. ``added_bias``: token id -> head bias set when the token was added, to be restored whenever its rows
    are. ``stop_texts`` end a generation like ``prompts.stop_ids`` and are not part of the answer (see
    ``protocol.stop``). ``room``: the sizes found to fit in memory.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    architecture: Architecture
    prompts: PromptFormatter
    device: torch.device
    fingerprint: str
    source: str
    unlearn_ids: list[int] = field(default_factory=list)
    added_bias: dict[int, float] = field(default_factory=dict)
    stop_texts: tuple[str, ...] = ()
    room: Room = field(default_factory=Room)


def load_model(
    config: ModelConfig, run: RunConfig, *, path: str | Path | None = None, reporter: Reporter | None = None
) -> LoadedModel:
    """Load ``path`` (else ``config.path``): a folder, a GGUF file, or a hub id.

    Raises UserError if it is missing, unreachable, damaged, of a kind that cannot be edited, or has weights that are
    not finite.
    """
    reporter = reporter or SilentReporter()
    wanted = path if path is not None else config.path
    source = resolve(wanted, reporter)
    # Messages and records show the file that was named, not the folder it was unpacked to.
    named = source if wanted is None else gguf_at(wanted) or source
    revision = config.revision if isinstance(source, str) else None
    if isinstance(source, str) and revision is None:
        reporter.warn(f"model.revision is not set: {source} may change on the hub; pin it with model.revision=COMMIT")
    if run.threads:
        torch.set_num_threads(run.threads)
    device = choose_device(run.device)
    hub_config = read_config(source, revision)
    dtype, reason = choose_dtype(config.dtype, device)
    tokenizer = read_tokenizer(source, revision)
    if config.device_map is not None:
        check_spreading(config.device_map)
    with one_line("configuration", source):
        attention, why = choose_attention(config.attention, hub_config)
    model = read_weights(source, revision, hub_config, dtype, attention, config.device_map)
    if config.device_map is None:
        model.to(device)  # type: ignore[arg-type]  # transformers' wrapper hides the method's own signature
    check_placed(model)
    check_finite(model.named_parameters(), named, "use the original model's files, or model.dtype=float32 or bfloat16")
    kind, where = str(model.dtype).removeprefix("torch."), placement(model) if is_spread(model) else device
    reporter.note(f"{named}: {kind} on {where} ({reason}), attention {attention}{why}")
    if isinstance(named, Path):
        fingerprint = fingerprint_model(named)
    else:
        fingerprint = f"{source}@{getattr(model.config, '_commit_hash', None) or revision or 'default branch'}"
    # Some values are only checked here: the end tokens of tokenizer and generation, the shape of a block.
    with one_line("model", named):
        return wrap_model(
            model, tokenizer, config=config, source=str(named), fingerprint=fingerprint, reporter=reporter
        )


def wrap_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    config: ModelConfig | None = None,
    source: str = "memory",
    fingerprint: str = "",
    reporter: Reporter | None = None,
) -> LoadedModel:
    """A LoadedModel from a model and a tokenizer in memory; the model is set to evaluation mode and frozen.

    ``reporter`` is warned when batches have to shrink.
    """
    config = config or ModelConfig()
    model.eval().requires_grad_(False)
    architecture = find_architecture(model)
    if config.layers is not None:
        architecture.check_layers(list(config.layers))
    if not architecture.embedding.weight.is_meta:
        # Reject a model whose blocks cannot be edited now, not when the edit is reached.
        output_norm(architecture, (config.layers or architecture.default_layers())[0])
    rows = architecture.embedding.weight.shape[0]
    if len(tokenizer) > rows:
        what = f"the tokenizer has {len(tokenizer)} tokens, the model only {rows} rows"
        raise UserError(what, "use the tokenizer that belongs to this model")
    text_config = model.config.get_text_config()
    prompts = PromptFormatter(
        tokenizer,
        config.prompt,
        config.date,
        system=config.system,
        instruction=config.instruction,
        stop_ids=_end_tokens(model),
        max_length=getattr(text_config, "max_position_embeddings", None),
    )
    device = architecture.embedding.weight.device
    room = Room(reporter.warn) if reporter is not None else Room()
    known = known_unlearning_tokens(tokenizer)
    stop_texts = PLAIN_STOP if prompts.style == "plain" else ()
    return LoadedModel(
        model, tokenizer, architecture, prompts, device, fingerprint, source, known, stop_texts=stop_texts, room=room
    )


def choose_device(name: str) -> torch.device:
    """The device of that name; ``auto`` takes a GPU if there is one, a different one for each process on a machine.

    Raises UserError for a device that this machine does not have.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", whole_number("LOCAL_RANK", 0) % torch.cuda.device_count())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"run.device={name} is not a device", "choose auto, cpu, cuda, cuda:1 or mps") from error
    missing = (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()) or (
        device.type == "mps" and not torch.backends.mps.is_available()
    )
    if missing:
        raise UserError(f"run.device={name}: this machine has no such device", "set run.device=auto")
    return device


def choose_dtype(name: str, device: torch.device) -> tuple[torch.dtype | str, str]:
    """The dtype to load with, and why; "auto" is the checkpoint's own dtype."""
    if name != "auto":
        return getattr(torch, name), f"model.dtype={name}"
    if device.type == "cpu":
        return torch.float32, "float32 is the exact and safe choice on a CPU"
    return "auto", "the checkpoint's own type"


def choose_attention(name: str, config: PreTrainedConfig) -> tuple[str, str]:
    """The attention implementation to load with, and why if it differs from ``name``.

    sdpa has no soft cap on attention logits (Gemma 2): such models are loaded with eager.
    """
    kind = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    able = getattr(kind, "_supports_sdpa", True) and not getattr(
        config.get_text_config(), "attn_logit_softcapping", None
    )
    return (name, "") if name != "sdpa" or able else ("eager", " (sdpa cannot compute this model's)")


def _end_tokens(model: PreTrainedModel) -> list[int]:
    """Ids that the model's generation settings stop at."""
    settings = getattr(model, "generation_config", None)
    ids = getattr(settings, "eos_token_id", None)
    return [] if ids is None else [int(i) for i in (ids if isinstance(ids, list) else [ids])]
