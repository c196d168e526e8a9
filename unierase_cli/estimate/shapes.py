"""The size of a model, from its config.json or GGUF header; nothing is loaded.

torch is imported only for families whose weights are counted on a model on the meta device.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import UserError
from unierase_cli.estimate.gguf_widths import gguf_widths
from unierase_cli.sizes import default_layers
from unierase_cli.store.gguf_files import gguf_at
from unierase_cli.store.model_folders import CONFIG, cached_file, check_description

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "float64": 8}


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder: ``inner`` is the down projection's input (d), ``stored`` the checkpoint's bytes per weight.

    ``gated``: three MLP matrices instead of two. ``query_biases``: queries, keys and values have biases;
    ``output_bias`` and ``mlp_biases`` likewise. ``head_norms``: queries and keys are normalised per head.
    ``gpt2_positions``: learned positions, with biases and layer norms as in GPT-2. ``counted``: the number of weights,
    if it was counted.
    """

    vocabulary: int
    hidden: int
    inner: int
    blocks: int
    heads: int
    key_value_heads: int
    head_size: int
    tied: bool
    stored: int = 2
    gated: bool = True
    query_biases: bool = False
    output_bias: bool = False
    mlp_biases: bool = False
    head_norms: bool = False
    gpt2_positions: int = 0
    counted: int | None = None

    @property
    def adapter_width(self) -> int:
        """LoRA weights per rank, over every linear layer of the blocks: input plus output size of each."""
        return self.blocks * (4 * 2 * self.hidden + 3 * (self.hidden + self.inner))

    @property
    def parameters(self) -> int:
        """Number of weights: exact for the families in SUMMED, within 0.1 % for the others in KNOWN."""
        if self.counted is not None:
            return self.counted
        query, pair = self.heads * self.head_size, self.key_value_heads * self.head_size
        block = self.hidden * (2 * query + 2 * pair) + self.hidden * self.inner * (3 if self.gated else 2)
        if self.gpt2_positions:
            block += 3 * self.hidden + self.hidden + self.inner + self.hidden + 4 * self.hidden
            ends = self.gpt2_positions * self.hidden + 2 * self.hidden
        else:
            block += 2 * self.hidden + (query + 2 * pair if self.query_biases else 0)
            block += (self.hidden if self.output_bias else 0) + (2 * self.head_size if self.head_norms else 0)
            block += 2 * self.inner + self.hidden if self.mlp_biases else 0
            ends = self.hidden
        return self.vocabulary * self.hidden * (1 if self.tied else 2) + self.blocks * block + ends

    def default_layers(self) -> list[int]:
        """The edited layers of a model without a preset."""
        return default_layers(self.blocks)


# Families whose number of weights follows from the widths.
SUMMED = ("", "llama", "mistral", "qwen2", "qwen3")
_LLAMA8 = Shape(128256, 4096, 14336, 32, 32, 8, 128, False)
# Shapes of hub models, so that they can be estimated before a download: part of the hub id -> shape.
KNOWN = {
    "llama-3.2-1b": Shape(128256, 2048, 8192, 16, 32, 8, 64, True),
    "llama-3.2-3b": Shape(128256, 3072, 8192, 28, 24, 8, 128, True),
    "llama-3.1-8b": _LLAMA8,
    "llama-3-8b": _LLAMA8,
    "llama-2-7b": Shape(32000, 4096, 11008, 32, 32, 32, 128, False),
    "qwen2.5-7b": Shape(152064, 3584, 18944, 28, 28, 4, 128, False, query_biases=True),
    "qwen2.5-1.5b": Shape(151936, 1536, 8960, 28, 12, 2, 128, True, query_biases=True),
    "qwen2.5-0.5b": Shape(151936, 896, 4864, 24, 14, 2, 64, True, query_biases=True),
    "qwen3-8b": Shape(151936, 4096, 12288, 36, 32, 8, 128, False, head_norms=True),
    "mistral-7b-v0.1": Shape(32000, 4096, 14336, 32, 32, 8, 128, False),
    "mistral-7b-instruct-v0.2": Shape(32000, 4096, 14336, 32, 32, 8, 128, False),
    "mistral-7b-instruct-v0.3": Shape(32768, 4096, 14336, 32, 32, 8, 128, False),
    "mistral-7b-v0.3": Shape(32768, 4096, 14336, 32, 32, 8, 128, False),
    "gemma-2-2b": Shape(256000, 2304, 9216, 26, 8, 4, 256, True),
    "gemma-2-9b": Shape(256000, 3584, 14336, 42, 16, 8, 256, True),
    "gemma-3-1b": Shape(262144, 1152, 6912, 26, 4, 1, 256, True, head_norms=True),
    "gemma-3-270m": Shape(262144, 640, 2048, 18, 4, 1, 256, True, counted=268_098_176),
    "smollm2-135m": Shape(49152, 576, 1536, 30, 9, 3, 64, True),
    "smollm2-360m": Shape(49152, 960, 2560, 32, 15, 5, 64, True),
    "smollm2-1.7b": Shape(49152, 2048, 8192, 24, 32, 32, 64, True),
    "phi-3.5-mini": Shape(32064, 3072, 8192, 32, 32, 32, 96, False),
    "phi-4-mini": Shape(200064, 3072, 8192, 32, 24, 8, 128, True),
    "olmo-2-1124-7b": Shape(100352, 4096, 11008, 32, 32, 32, 128, False),
    "pythia-6.9b": Shape(
        50432, 4096, 16384, 32, 32, 32, 128, False, gated=False, query_biases=True, output_bias=True, mlp_biases=True
    ),
    "gpt2": Shape(50257, 768, 3072, 12, 12, 12, 64, True, stored=4, gated=False, gpt2_positions=1024),
}


def shape_of(experiment: Experiment) -> tuple[Shape | None, str]:
    """The model's shape and its source; None and a reason if it is unknown before a download.

    Raises UserError for a folder or file that is missing or unreadable.
    """
    if experiment.model.path is None:
        return _made_here(experiment), "train.* (made by the finetune stage)"
    path = Path(experiment.model.path).expanduser()
    if path.is_dir():
        return from_config(check_description(path / "config.json")), str(path / "config.json")
    file = gguf_at(path)
    if file is not None:
        return Shape(**gguf_widths(file)), f"{file} (header)"
    if path.is_absolute() or str(path).startswith(".") or str(path).count("/") > 1 or path.suffix.lower() == ".gguf":
        raise UserError(f"model folder {path} does not exist", "check model.path")
    cached = cached_config(experiment.model.path, experiment.model.revision)
    if cached is not None:
        return from_config(check_description(cached)), f"{cached} (hub cache)"
    name = experiment.model.path.lower().replace("_", "-")
    for part, shape in sorted(KNOWN.items(), key=lambda item: -len(item[0])):
        if re.search(rf"(^|[/-]){re.escape(part)}($|[-.])", name):
            return shape, f"the known shape of {part}"
    return None, f"{experiment.model.path} is not in the local cache, and its shape is not known"


def cached_config(name: str, revision: str | None) -> Path | None:
    """The config.json of a hub model in the local cache, or None."""
    return cached_file(name, CONFIG, revision)


def from_config(config: dict[str, Any]) -> Shape:
    """The shape that a config.json describes; raises UserError with the first missing width."""
    whole, config = config, {**config, **(config.get("text_config") or {})}
    stored = BYTES.get(str(config.get("dtype") or config.get("torch_dtype") or "float32"), 2)
    if config.get("model_type") == "gpt2":
        hidden, heads = _number(config, "n_embd"), _number(config, "n_head")
        inner = int(config.get("n_inner") or 4 * hidden)
        return Shape(
            _number(config, "vocab_size"), hidden, inner, _number(config, "n_layer"), heads, heads, hidden // heads,
            tied=bool(config.get("tie_word_embeddings", True)), stored=stored, gated=False,
            gpt2_positions=_number(config, "n_positions"),
        )  # fmt: skip
    kind = str(config.get("model_type", ""))
    if kind not in SUMMED:
        return _counted(whole, stored)
    hidden, heads = _number(config, "hidden_size"), _number(config, "num_attention_heads")
    return Shape(
        _number(config, "vocab_size"),
        hidden,
        _number(config, "intermediate_size"),
        _number(config, "num_hidden_layers"),
        heads,
        int(config.get("num_key_value_heads") or heads),
        int(config.get("head_dim") or hidden // heads),
        tied=bool(config.get("tie_word_embeddings", False)),
        stored=stored,
        query_biases=kind == "qwen2" or bool(config.get("attention_bias")),
        output_bias=bool(config.get("attention_bias")),
        mlp_biases=bool(config.get("mlp_bias")),
        head_norms=kind == "qwen3",
    )


def _counted(config: dict[str, Any], stored: int) -> Shape:
    """The shape of another family, from a model on the meta device; raises UserError if it cannot be built or edited."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from unierase_cli.models.architecture import find_architecture

    kind = config.get("model_type")
    try:
        known = AutoConfig.for_model(**config)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(known)
    except Exception as error:  # transformers raises many kinds of errors for an invalid config
        raise UserError(
            f"transformers cannot make a causal language model from config.json (model_type {kind}): "
            f"{' '.join(str(error).split())[:200]}",
            "only decoder language models can be edited",
        ) from error
    found, text = find_architecture(model), known.get_text_config()
    heads = text.num_attention_heads
    return Shape(
        found.embedding.weight.shape[0],
        found.hidden_size,
        found.inner_size(0),
        found.n_blocks,
        heads,
        getattr(text, "num_key_value_heads", None) or getattr(text, "num_kv_heads", None) or heads,
        getattr(text, "head_dim", None) or found.hidden_size // heads,
        tied=found.tied,
        stored=stored,
        counted=sum(weight.numel() for weight in model.parameters()),
    )


def _made_here(experiment: Experiment) -> Shape:
    train = experiment.train
    return Shape(
        train.vocabulary, train.hidden_size, train.intermediate_size, train.layers, train.heads, train.heads,
        train.hidden_size // train.heads, tied=False, stored=4,
    )  # fmt: skip


def _number(config: dict[str, Any], key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int):
        raise UserError(
            f"config.json has no {key}: the model's shape is unknown", "only decoder language models can be edited"
        )
    return value
