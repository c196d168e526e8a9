"""One page for the person who asked for an erasure: the request, the facts as hashes, before and after, and how to verify it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from unierase_cli.audit.findings import Audit
from unierase_cli.metrics.scores import Scores
from unierase_cli.results.audits.tables import sentences
from unierase_cli.results.page.document import document, escaped, listed, pairs, section
from unierase_cli.results.page.headline import RECALL, header_html, most_back, sentence_of
from unierase_cli.results.page.ranges import Range
from unierase_cli.results.page.run_page import range_of

GUESSABLE = "Who can guess a fact, word for word, can test the guess against its hash."
FACTS = (
    "Each fact stands as the first 32 digits of the sha256 of its question and answer; nothing else of it is on this page. "
    f"{GUESSABLE}"
)
NO_NUMBERS = "The model was not asked before and after: no numbers are known."


def erasure_page(
    run: str,
    forgotten: Sequence[str],
    scores: Scores | None,
    audit: Audit | None,
    *,
    request: Mapping[str, str],
    not_promised: Sequence[str],
    hashes: Mapping[str, str],
    verify: Sequence[tuple[str, str]],
    command: str,
) -> str:
    """A self-contained page that prints well. ``request``: name -> text; ``hashes``: of the model, before and after; ``verify``:
    (what, command); ``command``: what audits the run, where nothing has.
    """
    forget, kept = Range("", None), Range("", None)
    numbers: list[Range] = []
    if scores is not None:
        forget = range_of(scores, "forget.rouge", "Recall of what was to be forgotten", "forget", "0: nothing comes back")
        kept = range_of(scores, "retain_unseen.rouge", "Recall of what should be kept", "keep", "on questions never trained on")
        numbers = [forget, kept, *([] if audit is None else [most_back(audit)])]
    told = sentence_of(len(forgotten), forget, kept, audit) if scores is not None else escaped(NO_NUMBERS)
    steps = "".join(f"<dt>{escaped(what)}</dt><dd><code>{escaped(how)}</code></dd>" for what, how in verify)
    attacks = [] if audit is None else [audit.line, *sentences(audit)]
    parts = [
        section("request", "The request", pairs(dict(request))),
        section("facts", f"{len(forgotten)} facts", f'<pre class="hashes">{escaped(chr(10).join(forgotten))}</pre>', FACTS),
        section("audit", "What an audit found", listed(attacks)),
        section("not-promised", "What is not promised", listed(list(not_promised))),
        section("model", "The model", pairs(dict(hashes))),
        section("verify", "How to verify this", f'<dl class="pairs">{steps}</dl>' if steps else ""),
    ]
    title = f"Erasure report: {run}"
    top = header_html(title, told, numbers, "" if audit else command)
    return document(title, f"{top if numbers else top.replace(escaped(RECALL), '')}<main>{''.join(parts)}</main>")
