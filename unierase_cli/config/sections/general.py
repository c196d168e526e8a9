"""What is asked beside the benchmark to see whether a model can still do what it could: general ability."""

from __future__ import annotations

from dataclasses import dataclass, field

from unierase_cli.config.checks import fraction, positive
from unierase_cli.config.counted import BY_CONTENT
from unierase_cli.contracts import UserError, duplicates

# What a question that does not fit the model stopped at: it is not asked, and is wrong.
TOO_LONG = "too long"


@dataclass(frozen=True)
class GeneralConfig:
    # Suites, each a file of unierase_cli/benchmarks/general: mmlu | gsm8k | trivia_qa | human_eval. Empty: none is asked.
    suites: list[str] = field(default_factory=list)
    # Folder with mmlu_test_sample.jsonl (or mmlu.jsonl), gsm8k.jsonl, trivia_qa.jsonl, human_eval.jsonl; null: from the hub.
    data_dir: str | None = field(default=None, metadata=BY_CONTENT)
    # Part of mmlu and trivia_qa that is asked, drawn once and for all with one seed (1: all of it). All of a file that is a sample
    # already (mmlu_test_sample.jsonl) is asked.
    share: float = 0.1
    # Rows of each suite and lm-eval task, at most (0: no limit).
    rows: int = 0
    # New tokens generated at most: room to think before the answer.
    max_new_tokens: int = 512
    # Ask and judge as the UniErase authors' scripts do, their mistakes included, to compare with their tables.
    compat: bool = False
    # Wall time in seconds (with compat: 1, as there) and memory in MiB that one generated program of human_eval may take.
    code_seconds: float = 3.0
    code_memory_mib: int = 512
    # Tasks of EleutherAI's lm-eval (pip install 'unierase[lm_eval]'), with its own prompts and metrics.
    lm_eval: list[str] = field(default_factory=list)
    # Folder with tasks of your own for lm-eval, as yaml files.
    lm_eval_folder: str | None = field(default=None, metadata=BY_CONTENT)
    # Examples in each prompt of lm-eval; null: as each task says.
    lm_eval_shots: int | None = None

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
        """Whether anything is asked at all."""
        return bool(self.suites or self.lm_eval)
