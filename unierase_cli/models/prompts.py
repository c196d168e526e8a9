"""The one way to turn questions and answers into token ids, shared by token training, editing and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from unierase_cli.contracts import COMPLETION, Fact, UserError
from unierase_cli.models.encoding import Span, TextEncoder
from unierase_cli.models.template import PLAIN, PROBES, RAW, Frame, between_turns, chat_frame, with_instruction


@dataclass(frozen=True)
class Prompt:
    """A rendered prompt; ``offsets`` and ``question_span`` are characters of ``text``, and a BOS not in ``text`` has (0, 0)."""

    text: str
    ids: list[int]
    offsets: list[Span]
    question_span: Span


@dataclass(frozen=True)
class AnswerTokens:
    """The tokens of an answer after a prompt; the first ``own`` of ``ids`` are the answer's, the rest close it."""

    ids: list[int]
    own: int


class PromptFormatter:
    """Renders prompts and answers with a model's own template.

    ``style``: "chat" or "plain" ("Question: ...\\nAnswer:"); "bare" is a chat prompt without a system turn. ``system``:
    text of the system turn. ``instruction``: text around every question, which is inserted at ``{question}``.
    ``end_id`` closes an answer in this style, after ``gap``, the white space (usually none) that the template writes
    there. ``eos_id`` is the tokenizer's own end token (it closes raw text). ``stop_ids``, which include both, end a
    generation. ``pad_id`` fills batches (always masked); ``bos_ids`` (none or one) opens every sequence once.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        style: str = "auto",
        date: str = "26 Jul 2024",
        *,
        system: str | None = None,
        instruction: str | None = None,
        stop_ids: Sequence[int] = (),
        max_length: int | None = None,
    ) -> None:
        if style == "auto":
            style = "chat" if tokenizer.chat_template else "plain"
        bare = style == "bare"
        if bare:
            style = "chat"
        if style == "chat" and not tokenizer.chat_template:
            raise UserError("this model's tokenizer has no chat template", "set model.prompt=plain")
        self.style = style
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.encoder = TextEncoder(tokenizer)
        self.frames: dict[str, Frame] = {"plain": PLAIN, "raw": RAW, COMPLETION: RAW}
        self._date = date
        if style == "chat":
            self.frames["chat"] = chat_frame(tokenizer, date, system, bare=bare)
            self._opening = self.frames["chat"].header
        if instruction is not None:
            # A plain prompt is itself an instruction, so a given instruction replaces it.
            around = self.frames["chat"] if style == "chat" else RAW
            self.frames[style] = with_instruction(around, instruction, PLAIN.lead if style == "plain" else around.lead)
        self.bos_ids = self._find_bos()
        self.end_id, self.gap = self._find_end()
        self.eos_id: int = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else self.end_id
        self.stop_ids: list[int] = sorted({self.end_id, self.eos_id, *stop_ids})
        self.pad_id: int = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.eos_id

    def prompt(self, question: str, style: str | None = None) -> Prompt:
        """The prompt up to where the answer starts; ``style`` "raw" or "completion" is BOS + question alone.

        Raises UserError if the prompt fills the model's context.
        """
        frame = self._frame(style)
        return self._prompt(frame.header, question.strip() if frame.strips else question, frame.footer)

    def render_prefixed(self, question: str, prefix: str, style: str | None = None) -> Prompt:
        """The prompt with a context in front: BOS, ``prefix + ". "``, then the rendered prompt without its own BOS (spec 2.3)."""
        frame = self._frame(style)
        header = frame.header.removeprefix(self._bos_text)
        opening = prefix + ". "
        content = question.strip() if frame.strips else question
        return self._prompt(opening + header, content, frame.footer, opening=len(opening))

    def conversation(self, turns: Sequence[tuple[str, str]], question: str) -> Prompt:
        """The prompt of a question that follows others with their answers: earlier turns of a chat, else examples in front.

        Raises UserError when the prompt fills the model's context, or when the template has no earlier turns.
        """
        if not turns:
            return self.prompt(question)
        frame = self._frame(None)
        if self.style == "plain":
            between = "\n\n" + frame.header
        else:
            # What an instruction puts in front of a question stands in the header of the first one.
            between = between_turns(self.tokenizer, self._date) + frame.header.removeprefix(self._opening)
        written, spans = "", []
        for number, (asked, said) in enumerate([*turns, (question, "")]):
            asked, said = (asked.strip(), said.strip()) if frame.strips else (asked, said)
            written += between if number else frame.header
            spans.append((len(written), len(written) + len(asked)))
            written += asked + frame.footer
            if number < len(turns):
                written += frame.lead
                spans.append((len(written), len(written) + len(said)))
                written += said
        return self._encoded(written, spans, spans[-1], question)

    def answer(self, answer: str, *, style: str | None = None) -> AnswerTokens:
        """An answer as it follows a prompt of this style, closed by ``gap`` and ``end_id``.

        ``style`` "raw" is an answer after a control token such as [UNL]: no space in front, the same close. White space
        of ``gap`` that merges with the answer's last character into one token belongs to the answer.
        """
        ids, offsets, last = self._follow(answer, style, self.gap)
        if not self.gap:
            return AnswerTokens([*ids, self.end_id], len(ids))
        return AnswerTokens(ids, sum(begin < last for begin, _ in offsets))

    def pair(self, fact: Fact) -> tuple[list[int], list[int]]:
        """Ids of a fact's prompt, and of its answer with its end token."""
        return self.prompt(fact.question, fact.kind).ids, self.answer_ids(fact.answer, style=fact.kind)

    def answer_ids(self, answer: str, *, end: bool = True, style: str | None = None) -> list[int]:
        """Ids of ``answer``; with ``end=False``, the ids of an answer that nothing closes."""
        return self.answer(answer, style=style).ids if end else self._follow(answer, style, "")[0]

    def answer_span(self, answer: str, begin: int, end: int, *, style: str | None = None) -> tuple[list[int], tuple[int, int]]:
        """Ids of an answer that nothing closes, and the half-open range of those that overlap its characters [begin, end).

        Raises ValueError if none does.
        """
        ids, offsets, last = self._follow(answer, style, "")
        stripped = answer.strip() if self._frame(style).strips else answer
        # Offsets count from the text that was encoded, and a template may take white space off the answer's start.
        shift = last - len(stripped) - answer.index(stripped)
        inside = [i for i, (a, b) in enumerate(offsets) if a < end + shift and b > begin + shift]
        if not inside:
            raise ValueError(f"no token covers the characters {begin} to {end} of {answer!r}")
        return ids, (inside[0], inside[-1] + 1)

    def said(self, text: str, stop: str) -> str:
        """A generated text that stopped at ``stop``, without the white space that the template writes before the end."""
        return text.removesuffix(self.gap) if stop == "end" else text

    def token_span(self, prompt: Prompt, start_char: int, end_char: int) -> tuple[int, int]:
        """Half-open range of the tokens that overlap the characters [start_char, end_char) of ``prompt.text``.

        Raises ValueError if there are none.
        """
        inside = [i for i, (a, b) in enumerate(prompt.offsets) if a < end_char and b > start_char]
        if not inside:
            raise ValueError(f"no token covers the characters {start_char} to {end_char} of {prompt.text!r}")
        return inside[0], inside[-1] + 1

    def _frame(self, style: str | None) -> Frame:
        name = style or self.style
        if name not in self.frames:
            raise UserError("this model is prompted without a chat template", "set model.prompt=chat")
        return self.frames[name]

    def _follow(self, answer: str, style: str | None, gap: str) -> tuple[list[int], list[Span], int]:
        """Ids and offsets of an answer after a prompt, and the character at which it ends.

        With a ``gap`` the end token is among the ids, since answer, white space and end must be tokenised as one text.
        """
        frame = self._frame(style)
        close = gap + self._name(self.end_id) if gap else ""
        context = self._name(self.end_id) if frame is RAW else frame.header + PROBES[0] + frame.footer
        answer = answer.strip() if frame.strips else answer
        before, _ = self.encoder.encode(context)
        start = len(context) + len(frame.lead)
        last = start + len(answer)
        ids, offsets = self.encoder.encode(context + frame.lead + answer + close, [(start, last)])
        if ids[: len(before)] == before:
            return ids[len(before) :], offsets[len(before) :], last
        # The answer's first characters merge with the template's last ones: encode the answer alone.
        start, last = len(frame.lead), len(frame.lead) + len(answer)
        return *self.encoder.encode(frame.lead + answer + close, [(start, last)]), last

    def _prompt(self, header: str, question: str, footer: str, opening: int = 0) -> Prompt:
        text = header + question + footer
        span = (len(header), len(header) + len(question))
        return self._encoded(text, [(0, opening), span] if opening else [span], span, question)

    def _encoded(self, text: str, user_spans: Sequence[Span], span: Span, question: str) -> Prompt:
        """A rendered prompt with its ids. ``user_spans``: what somebody else wrote; ``span``: the question that is asked."""
        ids, offsets = self.encoder.encode(text, user_spans)
        if self.bos_ids and ids[:1] != self.bos_ids:
            ids, offsets = self.bos_ids + ids, [(0, 0), *offsets]
        if self.max_length is not None and len(ids) >= self.max_length:
            raise UserError(
                f"a prompt of {len(ids)} tokens does not fit the model's context of {self.max_length}: {question[:60]!r}...",
                "shorten the question or choose a model with a longer context",
            )
        return Prompt(text, ids, offsets, span)

    def _find_bos(self) -> list[int]:
        """The token that opens every sequence: added by the tokenizer, or written by the template."""
        bare = self.tokenizer("a", add_special_tokens=False)["input_ids"]
        full = self.tokenizer("a", add_special_tokens=True)["input_ids"]
        first = full[0] if full[:1] != bare[:1] else None
        bos = self.tokenizer.bos_token_id
        if first is None and bos is not None and "chat" in self.frames:
            first = bos if self.frames["chat"].header.startswith(self.tokenizer.bos_token) else None
        self._bos_text = "" if first is None else self._name(first)
        return [] if first is None else [first]

    def _name(self, token: int) -> str:
        return str(self.tokenizer.convert_ids_to_tokens(token))

    def _find_end(self) -> tuple[int, str]:
        """The control token that the template writes after an answer (else EOS), and the white space before it."""
        tail = self.frames[self.style].tail
        found = tail.lstrip()
        match = self.encoder.control.match(found)
        if match:
            return self.encoder.token_id(match.group()), tail.removesuffix(found)
        if self.tokenizer.eos_token_id is None:
            raise UserError("the tokenizer has no end token", "set eos_token in tokenizer_config.json")
        return int(self.tokenizer.eos_token_id), ""
