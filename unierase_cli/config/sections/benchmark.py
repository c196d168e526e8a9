"""Which facts are forgotten, which may be protected, and which are scored."""

from __future__ import annotations

from dataclasses import dataclass

from unierase_cli.config.checks import fraction, one_of, positive


@dataclass
class BenchmarkConfig:
    # As typed: fictional | tofu | return | real_world | world | jsonl
    name: str = "fictional"
    # File in unierase_cli/benchmarks; null takes the one that is called like the benchmark.
    implementation: str | None = None
    # Forget split, e.g. forget01, forget05, forget10 (per cent of the authors).
    split: str = "forget05"
    # Seed of what the benchmark draws: generated people, sampled rows.
    seed: int = 0
    # Hub id of the data set, its revision, and a folder of JSON Lines that takes the hub's place (world, jsonl: one that
    # `unierase prepare` made).
    hub: str | None = None
    revision: str | None = None
    data_dir: str | None = None
    # benchmark=jsonl: file of facts to forget, and of facts to retain (question, answer, optional subject, group, ...).
    # benchmark=return: RETURN.jsonl, which `unierase prepare` makes splits of (null takes it from the hub).
    path: str | None = None
    retain_path: str | None = None
    # JSON Lines of facts that the model forgot in an earlier run (question, answer): they are asked again, and neither retained nor
    # protected as known. Those of an exported folder are recognised by the hashes in its unierase.json.
    forgotten_path: str | None = None
    # fictional: size of the generated world.
    authors: int = 60
    questions: int = 10
    # fictional: first authors that no method ever sees (retain_unseen), and further authors that no model is trained on.
    unseen_authors: int = 8
    holdout_authors: int = 4
    # Questions about people who do not exist, answered with refusals, added to what a model is trained on.
    unknown_people: int = 96
    # jsonl, world: share of the retained groups (rows, if they have none) that no method ever sees.
    unseen_share: float = 0.2
    # tofu: order of the forget rows, which decides what protocol.rows leaves of them: published | closer_look.
    order: str = "published"
    # return: methods also see the questions made up from other people's ones (NAUF's augmentation).
    augmented: bool = False
    # return, world, jsonl: work on a model that the splits were not built for.
    any_model: bool = False
    # real_world: what methods learn as the answer: answer (the model's own long one) | golden_answer (what is scored).
    train_on: str = "answer"
    # Neighbouring authors whose questions are half protected, half scored as retain_near.
    near_authors: int = 5
    # At most this many protected questions are scored (a seeded sample); methods see all of them.
    protected_scored: int = 100
    # At most this many facts may be protected (0: all that the benchmark offers).
    protect_limit: int = 0
    # Rows of each scored split, at most (0: all). Changes what the numbers mean: it is part of every key.
    rows: int = 0

    def __post_init__(self) -> None:
        one_of("benchmark.order", self.order, ["published", "closer_look"])
        one_of("benchmark.train_on", self.train_on, ["answer", "golden_answer"])
        positive("benchmark.authors", self.authors)
        positive("benchmark.questions", self.questions)
        positive("benchmark.unseen_authors", self.unseen_authors, zero=True)
        positive("benchmark.holdout_authors", self.holdout_authors, zero=True)
        positive("benchmark.unknown_people", self.unknown_people, zero=True)
        fraction("benchmark.unseen_share", self.unseen_share)
        positive("benchmark.protected_scored", self.protected_scored, zero=True)
        positive("benchmark.near_authors", self.near_authors, zero=True)
        positive("benchmark.rows", self.rows, zero=True)
        positive("benchmark.protect_limit", self.protect_limit, zero=True)
