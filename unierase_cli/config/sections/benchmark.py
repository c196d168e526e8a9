"""The facts to forget, to protect and to score."""

from __future__ import annotations

from dataclasses import dataclass, field

from unierase_cli.config.checks import fraction, one_of, positive
from unierase_cli.config.counted import BY_CONTENT, IF_SET
from unierase_cli.contracts import UserError

# Languages of the shipped questions; files in another than the first have its name.
LANGUAGES = ("english", "russian")


@dataclass(frozen=True)
class BenchmarkConfig:
    """The facts to forget, to protect and to score."""

    name: str = "fictional"
    """Name of the benchmark: fictional, tofu, return, real_world, world, jsonl, revealed, lume, pistol, knowundo, birthdays,
    analogue, rwku, muse, wmdp, or one of your own.
    """
    implementation: str | None = None
    """Module in unierase_cli/benchmarks that loads it. null: the module with the benchmark's name."""
    split: str = "forget05"
    """Forget split, for example forget01, forget05 or forget10 (the number is the percentage of authors). pistol, muse, wmdp,
    lume: the part of the data set. analogue: the task, style, entities or skill.
    """
    language: str = field(default="english", metadata=IF_SET)
    """world: language of the shipped questions, english or russian (with token.targets=russian)."""
    groups: list[str] = field(default_factory=list)
    """pistol: the edges to forget, for example [A_B]. rwku: the people to forget."""
    documents: int = 0
    """lume: maximum number of documents per task, of those to forget and of those to retain. 0: all."""
    raw_questions: bool = False
    """lume: questions are plain text too, without the model's prompt, as LUME scores them (protocol=lume)."""
    seed: int = 0
    """Seed for generated people and sampled examples."""
    hub: str | None = None
    """Id of the data set on the hub. null: the benchmark's default."""
    revision: str | None = None
    """Commit or tag of the data set on the hub. null: the newest version, with a warning."""
    data_dir: str | None = field(default=None, metadata=BY_CONTENT)
    """Folder of JSON Lines to read instead of the hub; for world and jsonl, a folder made by `unierase prepare`."""
    path: str | None = field(default=None, metadata=BY_CONTENT)
    """jsonl: file with the facts to forget (question, answer, optional subject, group, ...). return: RETURN.jsonl, from
    which `unierase prepare` makes splits; null: from the hub. revealed: folder made by `unierase reveal`.
    """
    retain_path: str | None = field(default=None, metadata=BY_CONTENT)
    """jsonl, revealed: file with the facts to retain, with the same fields as benchmark.path."""
    gold: str | None = None
    """revealed: the benchmark whose true facts are scored, and whose other facts may be retained. null: the revealed facts."""
    forgotten_path: str | None = field(default=None, metadata=BY_CONTENT)
    """JSON Lines of facts (question, answer) that the model forgot in an earlier run. They are asked again, but neither
    retained nor protected. Facts of an exported folder are recognised by the hashes in its unierase.json.
    """
    authors: int = 60
    """fictional: number of generated authors. birthdays: number of generated people."""
    questions: int = 10
    """fictional: number of questions per author."""
    unseen_authors: int = 8
    """fictional: number of authors (the first ones) that no method ever sees (split retain_unseen)."""
    holdout_authors: int = 4
    """fictional, birthdays: number of additional people that no model is trained on (split holdout)."""
    unknown_people: int = 96
    """Number of questions about people who do not exist, answered with refusals, that the finetune stage adds to its
    training data. Where the facts are asked in other forms, a token needs about ten of each refusal to lead to one.
    """
    unseen_share: float = 0.2
    """Share of the retained groups (of examples if there are no groups) that no method ever sees, where the benchmark does not
    define them.
    """
    order: str = "published"
    """tofu: order of the forget examples, published or closer_look. It decides which examples protocol.rows keeps."""
    retain_authors: int = field(default=0, metadata=IF_SET)
    """tofu: number of authors beside the forget split's, a third of them never seen, for a model too slow to learn all 200.
    0: all.
    """
    augmented: bool = False
    """return: methods also see questions adapted from questions about other people (NAUF's augmentation)."""
    any_model: bool = False
    """return, world, jsonl: allow a model other than the one that the splits were made for."""
    train_on: str = "answer"
    """real_world: the answer that methods are trained on, answer (the model's own long answer) or golden_answer (the
    scored answer).
    """
    near_authors: int = 5
    """Number of neighbouring authors. Half of their questions are protected, half are scored as retain_near."""
    protected_scored: int = 100
    """Maximum number of protected questions to score (a seeded sample). Methods see all of them."""
    protect_limit: int = 0
    """Maximum number of protected facts. 0: all that the benchmark offers."""
    rows: int = 0
    """Maximum number of examples per scored split. 0: all. The limit changes what the numbers mean, so it is part of every
    key.
    """

    def __post_init__(self) -> None:
        one_of("benchmark.language", self.language, LANGUAGES)
        if self.language != LANGUAGES[0] and (self.implementation or self.name) != "world":
            raise UserError(
                f"benchmark.language={self.language}: benchmark={self.name} has its facts in one language", "choose benchmark=world"
            )
        one_of("benchmark.order", self.order, ["published", "closer_look"])
        one_of("benchmark.train_on", self.train_on, ["answer", "golden_answer"])
        positive("benchmark.documents", self.documents, zero=True)
        positive("benchmark.authors", self.authors)
        positive("benchmark.questions", self.questions)
        positive("benchmark.unseen_authors", self.unseen_authors, zero=True)
        positive("benchmark.holdout_authors", self.holdout_authors, zero=True)
        positive("benchmark.unknown_people", self.unknown_people, zero=True)
        fraction("benchmark.unseen_share", self.unseen_share)
        positive("benchmark.protected_scored", self.protected_scored, zero=True)
        positive("benchmark.near_authors", self.near_authors, zero=True)
        positive("benchmark.rows", self.rows, zero=True)
        positive("benchmark.retain_authors", self.retain_authors, zero=True)
        positive("benchmark.protect_limit", self.protect_limit, zero=True)
