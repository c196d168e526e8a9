"""What a model is asked, how it answers, and which metrics are computed."""

from __future__ import annotations

from dataclasses import dataclass, field

from unierase_cli.config.checks import one_of, positive
from unierase_cli.config.counted import BY_CONTENT, UNCOUNTED
from unierase_cli.config.sections.general import GeneralConfig
from unierase_cli.contracts import UserError

# Splits of the shipped benchmarks; none has all of them.
SPLITS = ["forget", "forget_eval", "forgotten_before", "retain_protected", "retain_near", "retain_unseen"]
SPLITS += ["real_authors", "world_facts", "holdout", "same_subject", "distance_2", "distance_3", "factual"]
SPLITS += ["member", "nonmember", "verbatim", "forget_level1", "forget_level2", "forget_level3"]
# Ways of asking and decoding. The first is the main one; the others give the honesty columns of the forget split.
VARIANTS = ["plain", "unlearn_forbidden", "unlearn_once", "paraphrased", "answer_prefix"]
# Variants that apply to a model without an unlearning token.
TOKENLESS_VARIANTS = ["plain", "paraphrased", "answer_prefix"]

# Ends an answer to a plain prompt, because a model without a chat template continues with a question of its own.
PLAIN_STOP = ("\nQuestion:",)


@dataclass(frozen=True)
class ProtocolConfig:
    """How many examples are asked and how long an answer may be."""

    name: str = field(default="full", metadata=UNCOUNTED)
    """Name of the chosen yaml, the NAME of protocol=NAME."""
    max_new_tokens: int = 200
    """Maximum number of new tokens per answer."""
    total_tokens: int = 0
    """Maximum number of tokens of prompt and answer together, which is how TOFU's own evaluation counts its 200. 0: only
    the model's context limits them.
    """
    prefix_tokens: int = 4
    """Tokens of the true answer that the variant answer_prefix reveals, cut between two characters."""
    rows: int = field(default=0, metadata=BY_CONTENT)
    """Maximum number of examples per split: the first ones, as TOFU's own evaluation takes its first 300. 0: all."""
    rows_of: list[str] = field(default_factory=list, metadata=BY_CONTENT)
    """Benchmarks that protocol.rows applies to (closer-look scores real_world in full). Empty: all."""
    stop: list[str] | None = None
    r"""Texts that end an answer ("\n" is a new line). null: "\nQuestion:" for plain prompts, none for chat prompts. []:
    none.
    """

    def rows_for(self, benchmark: str) -> int:
        """Maximum number of rows of a benchmark's splits, 0 for no limit."""
        return self.rows if not self.rows_of or benchmark in self.rows_of else 0

    def __post_init__(self) -> None:
        positive("protocol.max_new_tokens", self.max_new_tokens)
        positive("protocol.total_tokens", self.total_tokens, zero=True)
        positive("protocol.prefix_tokens", self.prefix_tokens)
        positive("protocol.rows", self.rows, zero=True)
        if self.stop is not None:
            # On a command line a new line can only be typed as \n.
            object.__setattr__(self, "stop", [text.replace("\\n", "\n") for text in self.stop])
            if not all(self.stop):
                raise UserError("protocol.stop has an empty text", "give texts that end an answer, or protocol.stop=[] for none")


@dataclass(frozen=True)
class EvalConfig:
    """What a model is asked, and which further passes and judges are used."""

    name: str = field(default="default", metadata=UNCOUNTED)
    """Name of the chosen yaml, the NAME of eval=NAME."""
    batch_size: int = field(default=0, metadata=UNCOUNTED)
    """Examples per batch. 0: chosen by device. Results depend on it only by rounding."""
    splits: list[str] = field(default_factory=list)
    """Splits to score; splits that the benchmark lacks are ignored. Empty: all of its splits."""
    forget_variants: list[str] = field(
        default_factory=lambda: ["unlearn_forbidden", "unlearn_once", "paraphrased", "answer_prefix"]
    )
    """Ways of asking the forget split in addition to plain answers: unlearn_forbidden, unlearn_once, paraphrased,
    answer_prefix.
    """
    truth_ratio: bool = True
    """Score wrong and paraphrased answers, for truth ratio and model utility. This costs a teacher-forced pass over
    them.
    """
    truth_ratio_splits: list[str] = field(
        default_factory=lambda: ["forget", "retain_unseen", "real_authors", "world_facts"]
    )
    """Splits whose wrong and paraphrased answers are scored; by default those that model utility and forget quality
    use. Empty: every split.
    """
    retain_reference: str | None = field(default=None, metadata=BY_CONTENT)
    """Model that never saw the forget set, for forget quality: the folder of its observations (an observe artefact),
    open-unlearning's TOFU_EVAL.json of a retain model (the file or its folder), or train (train one now). null: an
    existing one, if any.
    """
    encoder: str | None = None
    """Sentence encoder for cosine similarity: a hub id or a folder. null: metrics that need it are unavailable."""
    refusal_encoder: str | None = None
    """Sentence encoder that recognises refusals by meaning, also in the general suites: a hub id or a folder. null:
    metrics that need it are unavailable.
    """
    nli: str | None = None
    """Entailment classifier: a hub id or a folder. null: metrics that need it are unavailable."""
    gibberish: str | None = None
    """Gibberish detector: a hub id or a folder. null: metrics that need it are unavailable."""
    judge_seconds: float | None = None
    """Time limit for a judge (encoder, nli, gibberish) to load, and for each batch, in seconds. A slower judge is
    stopped and its metrics are unavailable. null: 600.
    """
    passes: list[str] = field(default_factory=list)
    """Further passes over the model, each a module in unierase_cli/probes: output_kl, perplexity, unrelated,
    gradient_norm, reference_loss.
    """
    texts: str | None = field(default=None, metadata=BY_CONTENT)
    """JSON Lines with the key `text` for the pass perplexity. null: a dozen short texts that come with the package."""
    reference_model: str | None = None
    """Model that never saw the forget set, for the pass reference_loss: a folder or a hub id."""
    steps: str = "all"
    """mode=sequential: steps after which the model is asked, besides the end: all, last or none."""
    step_rows: int = 0
    """mode=sequential: maximum number of examples per split asked after such a step. 0: as many as at the end."""
    general: GeneralConfig = field(default_factory=GeneralConfig)
    """General ability, measured apart from the benchmark; nothing by default."""

    def __post_init__(self) -> None:
        positive("eval.batch_size", self.batch_size, zero=True)
        positive("eval.step_rows", self.step_rows, zero=True)
        if self.judge_seconds is not None:
            positive("eval.judge_seconds", self.judge_seconds)
        one_of("eval.steps", self.steps, ["all", "last", "none"])
        for variant in self.forget_variants:
            one_of("eval.forget_variants", variant, VARIANTS)
