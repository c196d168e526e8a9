"""What a chat template (or the plain question form) writes around a question and around an answer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase

from unierase_cli.contracts import UserError

# Two contents that share neither their first nor their last character: what their renderings share is the template's.
PROBES = ("Ask one", "Be two")
CLOCK = "{% macro strftime_now(form) %}{{ pinned_dates[form] }}{% endmacro %}\n"


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


def chat_frame(tokenizer: PreTrainedTokenizerBase, date: str) -> Frame:
    """The frame of one user turn without system text, dates pinned to ``date``. Raises UserError if it cannot be found.

    Thinking is switched off where a template knows the switch (Qwen3).
    """
    first, second = (_render(tokenizer, [_user(probe)], date, prompt=True) for probe in PROBES)
    header, footer = _around(first, second)
    strips = _render(tokenizer, [_user(f" {PROBES[0]} ")], date, prompt=True) == first
    turns = [[_user(PROBES[0]), {"role": "assistant", "content": probe}] for probe in PROBES]
    before, after = _around(*[_render(tokenizer, turn, date, prompt=False) for turn in turns])
    lead = before.removeprefix(first) if before.startswith(first) else ""
    return Frame(header, footer, lead, after, strips)


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


def _user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def _render(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], date: str, *, prompt: bool) -> str:
    try:
        template = tokenizer.get_chat_template()
        forms = re.findall(r"strftime_now\(\s*['\"]([^'\"]+)['\"]", template)
        text = tokenizer.apply_chat_template(
            messages,
            # A macro hides the function of this name that transformers would offer; values may only be plain data.
            chat_template=CLOCK + template if forms else template,
            tokenize=False,
            add_generation_prompt=prompt,
            date_string=date,
            pinned_dates={form: _format_date(date, form) for form in forms},
            enable_thinking=False,
        )
    except (TemplateError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"the chat template fails: {reason}", "set model.prompt=plain") from error
    return str(text)


def _format_date(date: str, form: str) -> str:
    """The pinned date in the form that a template asks for; the text itself where it is not of the form 26 Jul 2024."""
    try:
        return datetime.strptime(date, "%d %b %Y").strftime(form)
    except ValueError:
        return date
