"""Entailment score: share of rows where a classifier finds that one answer entails the other (closer-look's ES).

On rows that should be kept, the true answer is the premise and the generated one the hypothesis, so made-up content counts against
it. On the forget split the roles are swapped: does the generated answer entail the true one, so does knowledge remain? Answers with
a ROUGE-L recall below 0.1 (to the short true answer) are not classified, because classifiers sometimes call unrelated or empty
texts entailed (spec: metrics, section 3, item 6).

"ES" means two things in this field: this score, and open-unlearning's ``extraction_strength``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from unierase_cli.contracts import Measure, Observation
from unierase_cli.metrics.base import FORGET, OPTION_SPLITS, About, Column, Evidence
from unierase_cli.metrics.judged import judged_columns, judged_mean, true_sentence
from unierase_cli.metrics.judges.judges import Judges
from unierase_cli.metrics.judges.kinds import NLI
from unierase_cli.metrics.rouge import rouge_l_recall, wordless

NAME = "entailment_score"
VERSION = 2
HIGHER_IS_BETTER = True
ABOUT = About(NAME, "entailment score", VERSION, HIGHER_IS_BETTER)
ENTAILED, UNRELATED = "entailment", "none"
LEAST_RECALL = 0.1
REAL_PEOPLE = "real_world"


def compute(
    observations: Sequence[Observation], judges: Judges | None = None, *, said_first: bool | None = None
) -> Measure:
    """Share of rows labelled entailment; unavailable if a true answer has no word. ``said_first`` as in ``pair``."""
    asked = judges or Judges()
    # Without words in the true answer, the recall cannot decide which answers to classify.
    return wordless(ABOUT, observations) or judged_mean(
        ABOUT, lambda: [float(label == ENTAILED) for label in labels(observations, asked, said_first=said_first)]
    )


def columns(evidence: Evidence) -> Iterable[Column]:
    first = said_first_everywhere(evidence)
    return judged_columns(
        evidence, ABOUT, NLI, lambda rows: compute(rows, evidence.judges, said_first=first), turns=True
    )


def said_first_everywhere(evidence: Evidence) -> bool | None:
    """True for closer-look's real people, where the generated answer is the premise on every split."""
    return True if evidence.benchmark == REAL_PEOPLE else None


def labels(observations: Sequence[Observation], judges: Judges, *, said_first: bool | None = None) -> list[str]:
    """The classifier's label per row; ``none`` if the recall is too low. Raises JudgeAbsent."""
    related = [o for o in observations if rouge_l_recall(o.text, o.reference) >= LEAST_RECALL]
    found = iter(judges.classify([pair(o, said_first) for o in related]))
    kept = {id(o) for o in related}
    return [next(found) if id(o) in kept else UNRELATED for o in observations]


def pair(observation: Observation, said_first: bool | None = None) -> tuple[str, str]:
    """(premise, hypothesis). ``said_first``: the generated answer is the premise; None: on the forget split only, as for TOFU.

    Closer-look puts the generated answer first on every split of its real-world scenario.
    """
    if said_first is None:
        said_first = observation.split == FORGET
    # If both true answers are whole sentences, the shorter one is used.
    true = true_sentence(observation) if observation.split in OPTION_SPLITS else observation.reference
    return (observation.text, true) if said_first else (true, observation.text)
