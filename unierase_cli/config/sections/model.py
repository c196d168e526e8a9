"""What model to work on, how it is prompted and where it is edited."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from unierase_cli.config.checks import block_numbers, fraction, one_of, positive
from unierase_cli.contracts import UserError

# Where the question stands in model.instruction.
SLOT = "{question}"


@dataclass
class ModelConfig:
    name: str = "hf"
    # Hub id, model folder, or GGUF file (extra gguf); null for a model that the finetune stage trains (see train).
    path: str | None = None
    # Commit or tag on the hub; null follows the default branch and is reported as a warning.
    revision: str | None = None
    # auto (float32 on a CPU, the checkpoint's own type on a GPU) | float32 | bfloat16 | float16
    dtype: str = "auto"
    # Several devices: null (all on run.device) | auto (accelerate spreads the blocks over all GPUs) | {module name: device, ...}.
    # For editing and evaluation; gradient methods have unlearn.sharding.
    device_map: Any = None
    # Attention implementation that transformers is asked for: sdpa (eager where sdpa cannot compute a model's) | eager |
    # flash_attention_2
    attention: str = "sdpa"
    # auto (the tokenizer's chat template if there is one) | chat | bare (chat without any system turn, such as the dates that
    # Llama 3.1's template writes by itself) | plain ("Question: ...\nAnswer:")
    prompt: str = "auto"
    # System text of a chat prompt; null leaves the template as it is.
    system: str | None = None
    # What stands around every question in the user's turn, e.g. "Answer briefly.\nQuestion: {question}"; null: nothing.
    instruction: str | None = None
    # Templates that print today's date get this one instead, so that a prompt is the same tomorrow.
    date: str = "26 Jul 2024"
    # Edited blocks, ascending; null takes the rule of thumb for the model's depth (spec: 3 or 5 blocks from 0.12-0.15 L).
    layers: list[int] | None = None
    # subject_last (large models: the fact is looked up at the subject) | prompt_last (small models decide at the prompt's end)
    key_position: str = "subject_last"
    # Whether the numbers of this preset were measured on the real weights.
    verified: bool = False
    # Free text shown by `unierase ls models` and the README.
    note: str = ""

    def __post_init__(self) -> None:
        one_of("model.dtype", self.dtype, ["auto", "float32", "bfloat16", "float16"])
        one_of("model.prompt", self.prompt, ["auto", "chat", "bare", "plain"])
        one_of("model.key_position", self.key_position, ["subject_last", "prompt_last"])
        one_of("model.attention", self.attention, ["sdpa", "eager", "flash_attention_2"])
        block_numbers("model.layers", self.layers)
        if self.device_map not in (None, "auto") and not (isinstance(self.device_map, dict) and self.device_map):
            raise UserError(
                f"model.device_map={self.device_map!r} is neither auto nor a mapping",
                "for example model.device_map=auto, or in a yaml {model.embed_tokens: 0, model.layers: 1, ...}",
            )
        if self.instruction is not None and self.instruction.count(SLOT) != 1:
            raise UserError(
                f"model.instruction={self.instruction!r} must say once where the question stands",
                f"write for example model.instruction='Answer briefly. Question: {SLOT}'",
            )
        if self.system is not None and self.prompt in ("bare", "plain"):
            raise UserError(
                f"model.prompt={self.prompt} has no system turn", "set model.prompt=chat or model.system=null"
            )

    def asking(self) -> dict[str, Any]:
        """How questions are put to the model, for the keys of what depends on it; what is not used leaves them as they were."""
        further = {"system": self.system, "instruction": self.instruction}
        used = {key: text for key, text in further.items() if text is not None}
        return {"prompt": self.prompt, "date": self.date, **used}


@dataclass
class TrainConfig:
    """The finetune stage: a small model from scratch on the benchmark (model.path null), or a checkpoint trained on."""

    name: str = "none"
    # Architecture of a model that is made from scratch (a Llama).
    hidden_size: int = 192
    intermediate_size: int = 1024
    layers: int = 6
    heads: int = 4
    vocabulary: int = 2048
    # Optimisation (AdamW, warm-up then cosine). Epochs are the most that are made.
    epochs: int = 24
    batch_size: int = 16
    lr: float = 2e-3
    warmup: float = 0.05
    weight_decay: float = 0.01
    clip: float = 1.0
    # auto (bfloat16 weights with float32 master copies where the CPU has the instructions) | float32 | bfloat16
    compute: str = "auto"
    # Refusals that each question about nobody is answered with in an epoch: more of them teach the list sooner.
    refusals_per_question: int = 2
    # Stop early once ROUGE-L recall on a sample of all facts, on each tenth of it, and the share of clean refusals about
    # nobody reach this; 0 never looks.
    target_rouge: float = 0.95
    # Epochs between looks, and between checkpoints that an interrupted run goes on from.
    look_every: int = 4
    # What the model learns: full, or retain (all but the forget set; also by its name, e.g. retain95 for forget05).
    split: str = "full"

    def __post_init__(self) -> None:
        for key in (
            "hidden_size",
            "intermediate_size",
            "layers",
            "heads",
            "vocabulary",
            "epochs",
            "batch_size",
            "look_every",
            "clip",
        ):
            positive(f"train.{key}", getattr(self, key))
        positive("train.lr", self.lr, example=1e-3)
        positive("train.refusals_per_question", self.refusals_per_question, zero=True)
        positive("train.weight_decay", self.weight_decay, zero=True)
        fraction("train.warmup", self.warmup)
        fraction("train.target_rouge", self.target_rouge)
        one_of("train.compute", self.compute, ["auto", "float32", "bfloat16"])
        # Rotary positions turn pairs of numbers: a head's width is even.
        if self.hidden_size % (2 * self.heads):
            raise UserError(
                f"train.hidden_size={self.hidden_size} is not an even multiple of train.heads={self.heads}",
                f"for example train.hidden_size={max(1, round(self.hidden_size / (2 * self.heads))) * 2 * self.heads}",
            )


@dataclass
class RunConfig:
    seed: int = 0
    # Folder of all artefacts.
    outputs: str = "outputs"
    # auto | cpu | cuda | cuda:1 | mps
    device: str = "auto"
    # CPU threads; 0 leaves torch's choice.
    threads: int = 0
    # Make the wanted stage anew even if a finished version exists.
    force: bool = False
    # Make what a stage needs; false refuses and names the missing stage.
    chain: bool = True

    def __post_init__(self) -> None:
        positive("run.threads", self.threads, zero=True)
        if not self.outputs.strip():
            raise UserError("run.outputs is empty", "name a folder, for example run.outputs=outputs")


@dataclass
class TermConfig:
    """One loss term of a gradient method."""

    # File in unierase_cli/methods/terms; null leaves the term out.
    term: str | None = None
    # Factor in the total loss.
    weight: float = 1.0
    # The term's own settings (its file lists them with their defaults).
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass
class MethodConfig:
    name: str = "unierase"
    # File in unierase_cli/methods; null takes the one that is called like the method.
    implementation: str | None = None
    # Edits in closed form (`unierase edit` accepts the method).
    editing: bool = True
    # Needs an unlearning token.
    token: bool = True
    # Gradient methods: what is minimised on the forget set and on the retain set.
    forget: TermConfig = field(default_factory=TermConfig)
    retain: TermConfig = field(default_factory=TermConfig)
    # Task vector and LoRA negation: how far to go against what was learned.
    scale: float = 1.0
    # Free text shown by `unierase ls methods`.
    note: str = ""

    @property
    def implemented_by(self) -> str:
        """The file that does it."""
        return self.implementation or self.name

    @property
    def trains(self) -> bool:
        """Whether it is one of the gradient methods, which are made of loss terms."""
        return not self.editing and (self.forget.term is not None or self.retain.term is not None)
