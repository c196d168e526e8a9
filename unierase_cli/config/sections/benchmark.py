"""Which facts are forgotten, which may be protected, and which are scored."""

from __future__ import annotations

from dataclasses import dataclass, field

from unierase_cli.config.checks import fraction, one_of, positive
from unierase_cli.config.counted import BY_CONTENT


@dataclass(frozen=True)
class BenchmarkConfig:
    """Which facts are forgotten, which may be protected, and which are scored."""

    name: str = "fictional"
    """Name of the benchmark: fictional, tofu, return, real_world, world, jsonl, or one of your own."""
    implementation: str | None = None
    """File of unierase_cli/benchmarks that loads it. null takes the one that is named like the benchmark."""
    split: str = "forget05"
    """Forget split, for example forget01, forget05 or forget10 (the number is the per cent of the authors)."""
    seed: int = 0
    """Seed of what the benchmark draws: made-up people and sampled examples."""
    hub: str | None = None
    """Id of the data set on the hub. null takes the benchmark's own."""
    revision: str | None = None
    """Commit or tag of the data set on the hub. null takes the newest version, with a warning."""
    data_dir: str | None = field(default=None, metadata=BY_CONTENT)
    """Folder of JSON Lines that is read instead of the hub; world, jsonl: one that `unierase prepare` made."""
    path: str | None = field(default=None, metadata=BY_CONTENT)
    """jsonl: file of the facts to forget (question, answer, optional subject, group, ...). return: RETURN.jsonl, from
    which `unierase prepare` makes splits; null takes it from the hub.
    """
    retain_path: str | None = field(default=None, metadata=BY_CONTENT)
    """jsonl: file of the facts to retain, with the same keys as benchmark.path."""
    forgotten_path: str | None = field(default=None, metadata=BY_CONTENT)
    """JSON Lines of facts (question, answer) that the model forgot in an earlier run. They are asked again, and neither
    retained nor protected. Facts of an exported folder are recognised by the hashes in its unierase.json.
    """
    authors: int = 60
    """fictional: number of authors in the generated world."""
    questions: int = 10
    """fictional: number of questions about each author."""
    unseen_authors: int = 8
    """fictional: number of authors, the first ones, that no method ever sees (split retain_unseen)."""
    holdout_authors: int = 4
    """fictional: number of further authors that no model is trained on (split holdout)."""
    unknown_people: int = 96
    """Number of questions about people who do not exist, answered with refusals, that the finetune stage adds to its
    training data.
    """
    unseen_share: float = 0.2
    """jsonl, world: share of the retained groups (of examples, if they have no group) that no method ever sees."""
    order: str = "published"
    """tofu: order of the forget examples, published or closer_look. It decides which examples protocol.rows keeps."""
    augmented: bool = False
    """return: methods also see questions that are made up from those about other people (NAUF's augmentation)."""
    any_model: bool = False
    """return, world, jsonl: allow a model that the splits were not made for."""
    train_on: str = "answer"
    """real_world: the answer that methods learn, answer (the model's own long one) or golden_answer (the one that is
    scored).
    """
    near_authors: int = 5
    """Number of neighbouring authors. Half of their questions are protected, half are scored as retain_near."""
    protected_scored: int = 100
    """Protected questions that are scored, at most (a seeded sample). Methods see all of them."""
    protect_limit: int = 0
    """Facts that may be protected, at most. 0: all that the benchmark offers."""
    rows: int = 0
    """Examples of each scored split, at most. 0: all. The limit changes what the numbers mean, so it is part of every
    key.
    """

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
