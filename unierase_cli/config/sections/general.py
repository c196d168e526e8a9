"""General ability: questions outside the benchmark that show whether a model can still do what it could before."""

from __future__ import annotations

from dataclasses import dataclass, field

from unierase_cli.config.checks import fraction, positive
from unierase_cli.config.counted import BY_CONTENT
from unierase_cli.contracts import UserError, duplicates

# Stop reason of a question that exceeds the model's context: it is not asked and counts as wrong.
TOO_LONG = "too long"


@dataclass(frozen=True)
class GeneralConfig:
    """General ability: suites of questions unrelated to the benchmark."""

    suites: list[str] = field(default_factory=list)
    """Suites to ask, each a module in unierase_cli/benchmarks/general: mmlu, gsm8k, trivia_qa, human_eval. Empty: none."""
    data_dir: str | None = field(default=None, metadata=BY_CONTENT)
    """Folder with mmlu_test_sample.jsonl (or mmlu.jsonl), gsm8k.jsonl, trivia_qa.jsonl and human_eval.jsonl. null: from
    the hub.
    """
    share: float = 0.1
    """Share of mmlu and trivia_qa to ask, always drawn with the same seed. 1: all. A file that is already a sample
    (mmlu_test_sample.jsonl) is asked in full.
    """
    rows: int = 0
    """Maximum number of questions per suite and lm-eval task. 0: no limit."""
    max_new_tokens: int = 512
    """Maximum number of new tokens per answer, with room for reasoning before the answer."""
    compat: bool = False
    """Ask and judge as the scripts of UniErase's authors do, mistakes included, to compare with their tables."""
    code_seconds: float = 3.0
    """Wall time limit per generated human_eval program, in seconds (with compat: 1, as in the authors' scripts)."""
    code_memory_mib: int = 512
    """Memory limit per generated human_eval program, in MiB."""
    lm_eval: list[str] = field(default_factory=list)
    """Tasks of EleutherAI's lm-eval (pip install 'unierase[lm_eval]'), with its own prompts and metrics."""
    lm_eval_folder: str | None = field(default=None, metadata=BY_CONTENT)
    """Folder with your own lm-eval tasks as yaml files."""
    lm_eval_shots: int | None = None
    """Number of few-shot examples in each lm-eval prompt. null: each task's default."""

    def __post_init__(self) -> None:
        fraction("eval.general.share", self.share)
        positive("eval.general.share", self.share)
        positive("eval.general.rows", self.rows, zero=True)
        positive("eval.general.max_new_tokens", self.max_new_tokens)
        positive("eval.general.code_seconds", self.code_seconds)
        positive("eval.general.code_memory_mib", self.code_memory_mib)
        if self.lm_eval_shots is not None:
            positive("eval.general.lm_eval_shots", self.lm_eval_shots, zero=True)
        for key in ("suites", "lm_eval"):
            for name in duplicates(getattr(self, key)):
                raise UserError(f"eval.general.{key} names {name} twice", "name each once")

    @property
    def wanted(self) -> bool:
        """Whether any suite or task is configured."""
        return bool(self.suites or self.lm_eval)
