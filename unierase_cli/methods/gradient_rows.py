"""Encoded sequences for a gradient method's plan: each pairs a question with an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from unierase_cli.contracts import Fact, Reporter, Step, UserError, continuing, fill_name
from unierase_cli.methods.base import EraseContext
from unierase_cli.methods.terms.base import FORGET, FORGET_ALTERNATE, FORGET_REFUSAL, RETAIN, RETAIN_REFUSAL, UNLEARNED
from unierase_cli.models.load import LoadedModel
from unierase_cli.training.token.pairs import make_examples
from unierase_cli.training.token.targets import known_targets
from unierase_cli.training.unlearning.plan import Item, Sizes
from unierase_cli.training.unlearning.rows import Layout, Row, RowBatch, collate, make_row
from unierase_cli.training.unlearning.said import Said

USES_RETAIN = {RETAIN, RETAIN_REFUSAL}
USES_REFUSALS = {FORGET_REFUSAL, RETAIN_REFUSAL}


def check_rows(kinds: set[str], method: str, *, retain: bool, refusals: bool, alternates: bool) -> None:
    """Raise UserError for kinds of rows that the benchmark cannot provide."""
    if kinds & USES_RETAIN and not retain:
        hint = "give benchmark.retain_path=..., or leave the retain term out: method.retain.term=null"
        raise UserError(f"{method} needs questions to retain, and the benchmark protects none", hint)
    if kinds & {*USES_REFUSALS, UNLEARNED} and not refusals:
        raise UserError(f"{method} needs refusals", "give token.targets=FILE")
    if FORGET_ALTERNATE in kinds and not alternates:
        raise UserError("this loss needs alternative answers", "choose method=altpo, which makes them")


class Rows:
    """The sequences of a plan's items, each encoded once. ``earlier``: facts of earlier requests, after the step's own."""

    def __init__(
        self,
        loaded: LoadedModel,
        step: Step,
        context: EraseContext,
        alternates: Mapping[str, Sequence[str]],
        earlier: Sequence[Fact] = (),
    ) -> None:
        self.prompts, self.device = loaded.prompts, loaded.device
        self.forget, self.retain = (*step.forget, *earlier), step.retain
        self.refusals, self.alternates, self.weights = context.refusals, alternates, context.token_weights
        self.tokens, self.seed = context.tokens, context.experiment.run.seed
        self.config = context.experiment.unlearn
        # Maximum length of a row; 0: unlimited.
        self.limit = min((n for n in (self.config.max_length, loaded.prompts.max_length) if n), default=0)
        # Fact id -> the answer to train on in place of the benchmark's.
        self.said: Mapping[str, Said] = {}
        self._made: dict[tuple[str, Said], Row] = {}
        fewest = min((len(found) for found in alternates.values()), default=1)
        self.sizes = Sizes(len(step.forget), len(step.retain), len(self.refusals), max(1, fewest))

    def check(self, kinds: set[str], method: str) -> None:
        """Raise UserError if the benchmark lacks the parts of these kinds of rows."""
        there = {"retain": bool(self.retain), "refusals": bool(self.refusals), "alternates": bool(self.alternates)}
        check_rows(kinds, method, **there)

    def __call__(self, kind: str, item: Item) -> Row:
        fact = self.retain[item.retain] if kind in USES_RETAIN else self.forget[item.forget]
        if kind == UNLEARNED and self.tokens is not None:
            return self._unlearned[fact.id]
        return self._row(fact, self._answer(kind, fact, item))

    def of_fact(self, fact: Fact) -> Row:
        """A fact's question with the answer that is trained on."""
        return self._row(fact, self._true(fact))

    def batches(self, kind: str, facts: Sequence[Fact], size: int) -> list[RowBatch]:
        """The rows of these facts, ``size`` at a time, laid out as rows of a kind."""
        rows = [self.of_fact(fact) for fact in facts]
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        return [collate(part, self.prompts.pad_id, self.device, self.layout(kind)) for part in parts]

    def prepare(self, kinds: set[str], items: Sequence[Item], reporter: Reporter) -> None:
        """Encode all rows, and warn about truncated rows and about weights of unknown facts.

        Raises UserError if truncation removes a whole answer.
        """
        rows = {self(kind, item) for kind in kinds for item in items}
        cut = [row for row in rows if row.cut]
        if any(row.answer_start >= len(row.ids) for row in cut):
            raise UserError(
                f"unlearn.max_length={self.config.max_length} leaves no room for an answer after its question",
                "raise it, or set unlearn.max_length=0 for no limit",
            )
        if cut:
            own = self.limit == self.config.max_length
            told = f"unlearn.max_length={self.limit}" if own else f"the model's context of {self.limit} tokens"
            reporter.warn(f"{len(cut)} of {len(rows)} sequences are truncated to {told}")
        known = {fact.id for fact in (*self.forget, *self.retain)}
        if strange := [name for name in self.weights if name not in known]:
            reporter.warn(f"unlearn.token_weights: {len(strange)} facts are not in this step, e.g. {strange[0]}")

    def layout(self, kind: str) -> Layout:
        """Layout of rows of this kind; only forget rows may have labels on every position."""
        everywhere = self.config.forget_labels == "all" and kind == FORGET
        pad_to, pad_id = (self.limit, self.prompts.eos_id) if self.config.layout == "closer_look" else (0, None)
        return Layout(pad_to, hide_end=self.config.layout != "own", label_all=everywhere, pad_id=pad_id)

    def _answer(self, kind: str, fact: Fact, item: Item) -> Said:
        if kind in USES_REFUSALS or kind == UNLEARNED:
            return Said(continuing(fact, fill_name(self.refusals[item.refusal], fact)), ends=True)
        if kind == FORGET_ALTERNATE:
            return Said(continuing(fact, self.alternates[fact.id][item.alternate]), ends=True)
        return self._true(fact)

    def _true(self, fact: Fact) -> Said:
        return self.said.get(fact.id) or Said(fact.answer, ends=True)

    @cached_property
    def _unlearned(self) -> Mapping[str, Row]:
        """Fact id -> the sequence that its token was, or will be, trained on."""
        assert self.tokens is not None
        _, targets = known_targets(self.tokens, self.forget, self.refusals, self.seed)
        ids = {fact.id: self.tokens.token_of(fact.id) for fact in self.forget}
        examples = make_examples(self.prompts, self.forget, targets, ids, "chat", self.tokens.info.get("closing", "end"))
        return {one.fact_id: make_row(one.prefix, one.ids[len(one.prefix) :], self.limit) for one in examples}

    def _row(self, fact: Fact, answer: Said) -> Row:
        found = self._made.get((fact.id, answer))
        if found is None:
            ids = self.prompts.prompt(fact.question, fact.kind).ids
            answer_ids = self.prompts.answer_ids(answer.text, end=answer.ends, style=fact.kind)
            weights = self.weights.get(fact.id) if answer.text == fact.answer else None
            if weights is not None and len(weights) != len(answer_ids):
                raise UserError(
                    f"unlearn.token_weights has {len(weights)} weights for {fact.id}, "
                    f"whose answer has {len(answer_ids)} tokens with its end token",
                    "make the weights with this model's tokenizer",
                )
            found = make_row(ids, answer_ids, self.limit, weights, ends=answer.ends)
            self._made[fact.id, answer] = found
        return found
