"""The metrics of each set in a log of TOFU or closer-look, computed by the same functions as for our own observations."""

from __future__ import annotations

from collections.abc import Callable

from unierase_cli.contracts import AnswerScore, Measure, Observation
from unierase_cli.interchange.tofu_log import (
    COSINE,
    ENTROPY,
    LABELS,
    LOSS,
    PARAPHRASED,
    ROUGE,
    SETS,
    WRONG,
    LogSet,
    TofuLog,
)
from unierase_cli.metrics import (
    closer_look,
    cosine_similarity,
    entailment,
    probability,
    rouge,
    token_entropy,
    truth_ratio,
)
from unierase_cli.metrics.base import OPTION_SPLITS, About, mean_result, unavailable

SIMILARITY, ENTAILMENT = cosine_similarity.ABOUT, entailment.ABOUT
# Inputs of the truth ratio.
ANSWERS = (LOSS, PARAPHRASED, WRONG)
# Closer-look's six members, and the truth ratio of TOFU's run-time aggregate.
MEMBERS = (*closer_look.MEMBERS[:3], truth_ratio.ARITHMETIC.name, *closer_look.MEMBERS[3:])

Members = dict[str, Measure]


def members_of(log: TofuLog, split: str) -> Members:
    """The members of a set by name. A member whose field the log lacks is unavailable and names the field."""
    options = split in OPTION_SPLITS
    found = {
        rouge.NAME: _member(log, split, rouge.ABOUT, (ROUGE,), lambda s: mean_result(rouge.ABOUT, s.fields[ROUGE])),
        probability.NAME: _member(
            log,
            split,
            probability.NORMALISED if options else probability.ABOUT,
            (LOSS, WRONG) if options else (LOSS,),
            lambda s: (probability.compute_normalised if options else probability.compute)(observations(s, split)),
        ),
        truth_ratio.NAME: _member(
            log, split, truth_ratio.ABOUT, ANSWERS, lambda s: truth_ratio.compute(observations(s, split))
        ),
        truth_ratio.ARITHMETIC.name: _member(
            log, split, truth_ratio.ARITHMETIC, ANSWERS, lambda s: truth_ratio.compute_arithmetic(observations(s, split))
        ),
        token_entropy.NAME: _member(
            log, split, token_entropy.ABOUT, (ENTROPY,), lambda s: mean_result(token_entropy.ABOUT, s.fields[ENTROPY])
        ),
        SIMILARITY.name: _member(
            # A negative cosine counts as no similarity.
            log, split, SIMILARITY, (COSINE,), lambda s: mean_result(SIMILARITY, [max(0.0, c) for c in s.fields[COSINE]])
        ),
        ENTAILMENT.name: _member(
            log, split, ENTAILMENT, (LABELS,),
            lambda s: mean_result(ENTAILMENT, [float(label == "entailment") for label in s.fields[LABELS]]),
        ),
    }  # fmt: skip
    return {name: found[name] for name in MEMBERS}


def observations(read: LogSet, split: str) -> list[Observation]:
    """Rows as observations whose answers have the logged average losses; a log has no token-level values."""
    found = []
    for place, row in enumerate(read.index):
        answers = {}
        for kind, field in (("true", LOSS), ("paraphrased", PARAPHRASED), ("wrong", WRONG)):
            if field in read.fields:
                losses = read.fields[field][place]
                answers[kind] = [_score(loss) for loss in (losses if kind == "wrong" else [losses])]
        found.append(Observation(row, row, "", split, "plain", row, "", [], "", "", "end", answers=answers))
    return found


def missing_field(log: TofuLog, split: str, fields: tuple[str, ...]) -> str | None:
    """A sentence that names the first missing field of a set, or None."""
    read = log.sets.get(split)
    if read is None:
        return f"{log.path.name} has no {SETS[split]}"
    lacking = [field for field in fields if field not in read.fields]
    return f"{SETS[split]} in {log.path.name} has no {lacking[0]}" if lacking else None


def _member(
    log: TofuLog, split: str, about: About, fields: tuple[str, ...], compute: Callable[[LogSet], Measure]
) -> Measure:
    reason = missing_field(log, split, fields)
    return unavailable(about, reason) if reason else compute(log.sets[split])


def _score(loss: float) -> AnswerScore:
    return AnswerScore([0], [-loss], [False], [0.0], [0.0])
