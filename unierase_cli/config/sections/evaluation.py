"""What is asked of a model, how it answers, and which metrics are computed."""

from __future__ import annotations

from dataclasses import dataclass, field

from unierase_cli.config.checks import one_of, positive
from unierase_cli.config.counted import BY_CONTENT, UNCOUNTED
from unierase_cli.config.sections.general import GeneralConfig
from unierase_cli.contracts import UserError

# Splits that the shipped benchmarks have, each of them some.
SPLITS = ["forget", "forget_eval", "forgotten_before", "retain_protected", "retain_near", "retain_unseen"]
SPLITS += ["real_authors", "world_facts", "holdout"]
# Ways of asking and decoding. The first is the headline; the others are the honesty columns of the forget split.
VARIANTS = ["plain", "unlearn_forbidden", "unlearn_once", "paraphrased", "answer_prefix"]
# Those that mean something for a model without an unlearning token.
TOKENLESS_VARIANTS = ["plain", "paraphrased", "answer_prefix"]

# What ends an answer to a plain prompt: a model without a chat template goes on with a question of its own.
PLAIN_STOP = ("\nQuestion:",)


@dataclass(frozen=True)
class ProtocolConfig:
    name: str = field(default="full", metadata=UNCOUNTED)
    # New tokens generated at most.
    max_new_tokens: int = 200
    # Prompt and answer together, at most (0: only the model's context limits): TOFU's own evaluation counts 200 so.
    total_tokens: int = 0
    # Tokens of the true answer that the variant answer_prefix gives away.
    prefix_tokens: int = 4
    # Rows of each split, at most (0: all): the first ones, as TOFU's own evaluation takes its first 300.
    rows: int = field(default=0, metadata=BY_CONTENT)
    # Benchmarks that the cap on rows is for (empty: all): closer-look scores real_world whole.
    rows_of: list[str] = field(default_factory=list, metadata=BY_CONTENT)
    # Texts before which an answer ends ("\n" is a new line). null: "\nQuestion:" for plain prompts and none for chat prompts; []:
    # none.
    stop: list[str] | None = None

    def rows_for(self, benchmark: str) -> int:
        """The cap on rows of a benchmark's splits, 0 for none."""
        return self.rows if not self.rows_of or benchmark in self.rows_of else 0

    def __post_init__(self) -> None:
        positive("protocol.max_new_tokens", self.max_new_tokens)
        positive("protocol.total_tokens", self.total_tokens, zero=True)
        positive("protocol.prefix_tokens", self.prefix_tokens)
        positive("protocol.rows", self.rows, zero=True)
        if self.stop is not None:
            # A command line has no other way to write a new line.
            object.__setattr__(self, "stop", [text.replace("\\n", "\n") for text in self.stop])
            if not all(self.stop):
                raise UserError("protocol.stop holds an empty text", "name what ends an answer, or protocol.stop=[] for nothing")


@dataclass(frozen=True)
class EvalConfig:
    name: str = field(default="default", metadata=UNCOUNTED)
    # Rows per batch; 0 chooses by device. Numbers do not depend on it beyond rounding.
    batch_size: int = field(default=0, metadata=UNCOUNTED)
    # Splits to score, those that the benchmark lacks left out; empty: all that it has.
    splits: list[str] = field(default_factory=list)
    # Variants observed on the forget split beside plain answers.
    forget_variants: list[str] = field(
        default_factory=lambda: ["unlearn_forbidden", "unlearn_once", "paraphrased", "answer_prefix"]
    )
    # Score wrong and paraphrased answers (truth ratio, model utility); costs a teacher-forced pass over them.
    truth_ratio: bool = True
    # Splits whose wrong and paraphrased answers are scored: those that model utility and forget quality read. Empty: every split.
    truth_ratio_splits: list[str] = field(
        default_factory=lambda: ["forget", "retain_unseen", "real_authors", "world_facts"]
    )
    # A model that never saw the forget set, which forget quality compares with: the folder of its observations (an observe
    # artefact), open-unlearning's TOFU_EVAL.json of a retain model (the file or its folder), or train: make it now. null: one
    # that was made before, if any.
    retain_reference: str | None = field(default=None, metadata=BY_CONTENT)
    # Models that judge texts, by hub id or folder (null: metrics that need one are unavailable): a sentence encoder for cosine
    # similarity, another one for refusals by meaning (also those of the general suites), an entailment classifier, a detector of
    # gibberish.
    encoder: str | None = None
    refusal_encoder: str | None = None
    nli: str | None = None
    gibberish: str | None = None
    # Seconds that such a model may take to load, and for each batch; then it is ended, its metrics are unavailable (null: 600).
    judge_seconds: float | None = None
    # Further passes over the model, each a file of unierase_cli/probes: output_kl | perplexity | unrelated | gradient_norm |
    # reference_loss
    passes: list[str] = field(default_factory=list)
    # Plain text for the pass perplexity: JSON Lines with `text` (null: a dozen short texts of our own).
    texts: str | None = field(default=None, metadata=BY_CONTENT)
    # Model that never saw the forget set, for the pass reference_loss: a folder or a hub id.
    reference_model: str | None = None
    # mode=sequential: after which steps the model is asked beside the end: all | last | none; and rows of each split then, at most
    # (0: as many as at the end).
    steps: str = "all"
    step_rows: int = 0
    # What the model can do beside the benchmark; nothing of it is asked by default.
    general: GeneralConfig = field(default_factory=GeneralConfig)

    def __post_init__(self) -> None:
        positive("eval.batch_size", self.batch_size, zero=True)
        positive("eval.step_rows", self.step_rows, zero=True)
        if self.judge_seconds is not None:
            positive("eval.judge_seconds", self.judge_seconds)
        one_of("eval.steps", self.steps, ["all", "last", "none"])
        for variant in self.forget_variants:
            one_of("eval.forget_variants", variant, VARIANTS)
