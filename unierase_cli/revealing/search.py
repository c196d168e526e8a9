"""Searches for further instructions: random soft prompts, or those that NeuralUCB chooses, at the same budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from unierase_cli.config.sections.reveal import RevealConfig
from unierase_cli.contracts import Reporter, normalised, stable_hash
from unierase_cli.revealing.instructions import LIST, QUESTION, Instruction
from unierase_cli.store.jsonl import append_jsonl, read_jsonl

if TYPE_CHECKING:
    from torch import Tensor

# Of the best so far, how many later outer rounds search around, and how far (of the side of the cube).
BEST, NEAR = 3, 0.4


class Writes(Protocol):
    """What a search needs of ``writer.Writer``."""

    def features(self, z: Tensor) -> Tensor: ...

    def write(self, z: Tensor) -> list[str]: ...


@dataclass(frozen=True)
class Tried:
    """A soft prompt's point, the instruction that came of it and its score; ``round``: the outer round."""

    kind: str
    z: list[float]
    text: str
    score: float
    round: int


def search(
    kind: str,
    writer: Writes,
    evaluate: Callable[[str], float],
    config: RevealConfig,
    *,
    seed: int,
    reporter: Reporter,
    file: Path | None = None,
) -> list[Tried]:
    """Score ``config.budget`` soft prompts; what ``file`` already holds of this kind is not asked again.

    Both searches begin with the same points of a scrambled Sobol sequence. The bandit then chooses; each of its outer
    rounds trains on everything scored so far, and later ones also have candidates near the best.
    """
    rows = read_jsonl(file, torn_tail=True) if file and file.exists() else []
    known = [Tried(**row) for row in rows if row["kind"] == kind]
    tried: list[Tried] = []
    scores: dict[str, float] = {}

    def score(z: Tensor, round_number: int) -> None:
        if len(tried) < len(known):
            one = known[len(tried)]
        else:
            (text,) = writer.write(z[None])
            same = normalised(text)
            value = scores[same] if same in scores else (evaluate(text) if text else 0.0)
            one = Tried(kind, z.tolist(), text, value, round_number)
            if file is not None:
                append_jsonl(file, [asdict(one)])
        scores[normalised(one.text)] = one.score
        tried.append(one)
        advance(1, f"best {max(t.score for t in tried):.3f}")

    with reporter.progress(f"searching ({config.search}, {kind})", config.budget) as advance:
        first = _sobol(config.candidates, stable_hash(seed, "candidates", kind, 0))
        opening = config.budget if config.search == "random" else config.start
        for z in first[:opening]:
            score(z, 0)
        if config.search == "random":
            return tried
        for number in range(config.rounds):
            own = stable_hash(seed, "candidates", kind, number)
            pool = first[opening:] if number == 0 else _pool(config.candidates, tried, own)
            wanted = opening + (config.budget - opening) * (number + 1) // config.rounds
            _choose(pool, tried, wanted, writer, config, own, partial(score, round_number=number))
    return tried


def _choose(
    pool: Tensor,
    tried: list[Tried],
    wanted: int,
    writer: Writes,
    config: RevealConfig,
    seed: int,
    score: Callable[[Tensor], None],
) -> None:
    """The inner loop: train on all scores, take the candidate with the highest bound, score it."""
    import torch

    from unierase_cli.revealing.bandit import NeuralUCB

    features = writer.features(pool)
    seen = writer.features(torch.tensor([one.z for one in tried]))
    bandit = NeuralUCB(features.shape[1], seed, config.exploration, config.ridge)
    left = torch.ones(len(pool), dtype=torch.bool)
    bandit.chosen(seen)
    while len(tried) < wanted:
        bandit.train(seen, torch.tensor([one.score for one in tried]))
        best = int(torch.where(left, bandit.bound(features), -torch.inf).argmax())
        left[best] = False
        bandit.chosen(features[best : best + 1])
        seen = torch.cat([seen, features[best : best + 1]])
        score(pool[best])


def _sobol(count: int, seed: int) -> Tensor:
    import torch

    from unierase_cli.revealing.writer import SIZE

    # The engine takes seeds of 32 bits.
    return torch.quasirandom.SobolEngine(SIZE, scramble=True, seed=seed % (1 << 31)).draw(count)


def _pool(count: int, tried: Sequence[Tried], seed: int) -> Tensor:
    """Candidates of a later outer round: half of them anywhere, half in boxes around the best so far."""
    import torch

    points = _sobol(count, seed)
    best = sorted(tried, key=lambda one: -one.score)[:BEST]
    centres = torch.tensor([best[n % len(best)].z for n in range(count // 2)])
    near = (centres + (points[: count // 2] - 0.5) * NEAR).clamp(0, 1)
    return torch.cat([near, points[count // 2 :]])


def chosen(tried: Sequence[Tried], known: Sequence[Instruction], config: RevealConfig) -> list[Instruction]:
    """The best ``config.keep`` different instructions of a search that score above 0 and are not among the known ones."""
    taken = {normalised(one.text) for one in known}
    found: list[Instruction] = []
    for one in sorted(tried, key=lambda one: -one.score):
        if len(found) < config.keep and one.score > 0 and normalised(one.text) not in taken:
            taken.add(normalised(one.text))
            name = f"{config.search}-{one.kind}-{len(found):02d}"
            found.append(Instruction(name, one.text, one.kind, form_of(one.text), origin=config.search))
    return found


def form_of(text: str) -> str:
    """Whether a written instruction is a question itself or asks for a list or text."""
    return QUESTION if text.rstrip().endswith("?") else LIST
