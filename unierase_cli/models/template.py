"""What a chat template (or the plain question form) writes around a question and around an answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase

from unierase_cli.config.sections.model import SLOT
from unierase_cli.contracts import UserError
from unierase_cli.models.bounded import Exceeded, Failed, bounded

# Two contents that share neither their first nor their last character: what their renderings share is the template's.
PROBES = ("Ask one", "Be two")
CLOCK = "{% macro strftime_now(format) %}{{ pinned_dates[format] or date_string }}{% endmacro %}\n"
# What opens a block of thoughts at the end of a prompt, where a template leaves it open.
THINKING = re.compile(r"<(think|thinking|thought|reasoning)>\s*$")
SYSTEM_HINT = (
    "set model.system=null, and model.instruction='... {question}' for what every question is to be asked with"
)
Turn = dict[str, str]


@dataclass(frozen=True)
class Frame:
    """``header + question + footer`` is the prompt, ``lead + answer + tail`` follows it."""

    header: str
    footer: str
    lead: str
    tail: str
    strips: bool = False  # whether the template removes white space around the question and the answer


PLAIN = Frame("Question: ", "\nAnswer:", " ", "")
RAW = Frame("", "", "", "")


def chat_frame(
    tokenizer: PreTrainedTokenizerBase, date: str, system: str | None = None, *, bare: bool = False
) -> Frame:
    """The frame of one user turn, dates pinned to ``date``. Raises UserError if it cannot be found.

    ``system``: text of a system turn in front; without one the template decides. ``bare``: nothing but the user's turn.
    Thinking is switched off where a template knows the switch (Qwen3); where it opens a block of thoughts that nothing switches
    off (DeepSeek-R1), the block is closed at once, so that the answer is what follows the prompt.
    """
    opening = [] if system is None else [_turn("system", system)]
    asked = [[*opening, _turn("user", text)] for text in (*PROBES, f" {PROBES[0]} ")]
    answered = [[*opening, _turn("user", PROBES[0]), _turn("assistant", text)] for text in PROBES]
    first, second, spaced, *turns = _render(tokenizer, asked, answered, date)
    if system is not None and system.strip() not in first:
        raise UserError("the chat template leaves the system text out", SYSTEM_HINT)
    header, footer = _around(first, second)
    before, after = _around(*turns)
    lead = before.removeprefix(first) if before.startswith(first) else ""
    opened = THINKING.search(footer)
    if opened:
        footer, lead = f"{footer.rstrip()}\n\n</{opened[1]}>\n\n", ""
    if bare:
        header = _bare_header(tokenizer, date, after)
    return Frame(header, footer, lead, after, spaced == first)


def with_instruction(frame: Frame, instruction: str, lead: str) -> Frame:
    """The frame with an instruction around the question, which stands at ``{question}`` in it."""
    before, after = instruction.split(SLOT)
    # What a template would strip from the user's turn is stripped here, where the turn's ends are no longer the question's.
    before, after = (before.lstrip(), after.rstrip()) if frame.strips else (before, after)
    return replace(frame, header=frame.header + before, footer=after + frame.footer, lead=lead)


def between_turns(tokenizer: PreTrainedTokenizerBase, date: str) -> str:
    """What a template writes between an answer and the question of the next turn. Raises UserError if that cannot be told."""
    between = _later_turn(tokenizer, date)[1]
    if between is None:
        raise UserError("the chat template leaves earlier answers out", "set model.prompt=plain for examples in front")
    return between


def _later_turn(tokenizer: PreTrainedTokenizerBase, date: str) -> tuple[str, str | None]:
    """All in front of a second question, and what of it stands behind the first answer; None where that is left out."""
    talk = [_turn("user", PROBES[0]), _turn("assistant", "Yes")]
    header, _ = _around(*_render(tokenizer, [[*talk, _turn("user", probe)] for probe in PROBES], [], date))
    said = header.rfind("Yes")
    return header, None if said < 0 else header[said + len("Yes") :]


def _bare_header(tokenizer: PreTrainedTokenizerBase, date: str, tail: str) -> str:
    """What opens a later user turn, which has no system text, behind the token that opens the whole."""
    header, between = _later_turn(tokenizer, date)
    if between is None or not between.startswith(tail):
        raise UserError("the chat template has no user turn that stands by itself", "set model.prompt=chat")
    begin = str(tokenizer.bos_token or "")
    opened = begin if header.startswith(begin) else ""
    return opened + between[len(tail) :].removeprefix(opened)


def _around(first: str, second: str) -> tuple[str, str]:
    """The shared text before and after the probes in two renderings."""
    head = first[: _shared(first, second)]
    length = _shared(first[::-1], second[::-1])
    tail = first[len(first) - length :]
    if head + PROBES[0] + tail != first or head + PROBES[1] + tail != second:
        raise UserError("the chat template changes the question's text", "set model.prompt=plain")
    return head, tail


def _shared(first: str, second: str) -> int:
    """Number of leading characters that two strings share."""
    differing = (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
    return next(differing, min(len(first), len(second)))


def _turn(role: str, content: str) -> Turn:
    return {"role": role, "content": content}


def _render(
    tokenizer: PreTrainedTokenizerBase, asked: Sequence[list[Turn]], answered: Sequence[list[Turn]], date: str
) -> list[str]:
    """Conversations as text: those that ask for an answer, which opens behind them, then those that have one."""

    def written() -> list[str]:
        template = tokenizer.get_chat_template()
        forms = re.findall(r"strftime_now\(\s*(?:format\s*=\s*)?['\"]([^'\"]+)['\"]", template)
        texts = (
            tokenizer.apply_chat_template(
                messages,
                # A macro hides the function of this name that transformers would offer; values may only be plain data.
                chat_template=CLOCK + template if "strftime_now" in template else template,
                tokenize=False,
                add_generation_prompt=prompt,
                date_string=date,
                pinned_dates={form: _format_date(date, form) for form in forms},
                enable_thinking=False,
            )
            for conversations, prompt in ((asked, True), (answered, False))
            for messages in conversations
        )
        return [str(text) for text in texts]

    try:
        return bounded(written)
    except Exceeded as error:
        raise UserError(f"the chat template goes too far: {error}", "set model.prompt=plain") from error
    except (Failed, TemplateError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        with_system = asked[0][0]["role"] == "system"
        hint = SYSTEM_HINT if with_system else "set model.prompt=plain"
        raise UserError(f"the chat template fails: {reason}", hint) from error


def _format_date(date: str, form: str) -> str:
    """The pinned date in the form that a template asks for; the text itself where it is not of the form 26 Jul 2024."""
    try:
        return datetime.strptime(date, "%d %b %Y").strftime(form)
    except ValueError:
        return date
