"""The erasure report of a run: a folder with one page, which has hashes and numbers but no text about what was forgotten."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unierase_cli.contracts import Reporter
from unierase_cli.delivery.edited_folder import hash_parameters
from unierase_cli.delivery.leaving import public_source
from unierase_cli.delivery.patches import Chosen, listed
from unierase_cli.delivery.run_facts import RunFacts
from unierase_cli.results.page.erasure_page import erasure_page
from unierase_cli.store.hashing import hash_json
from unierase_cli.store.new_folder import new_folder

if TYPE_CHECKING:
    from unierase_cli.models.load import LoadedModel

PAGE = "erasure.html"
# The texts are arguments: only the shell's rules say how a quote in them is written.
FACT_HASH = (
    'python -c "import sys; from unierase_cli.contracts import Fact; '
    "print(Fact('', *sys.argv[1:3]).content_hash)\" 'QUESTION' 'ANSWER'"
)
IN_SHELL = "a fact's hash (an apostrophe is typed as '\\'')"


def write_erasure_report(
    loaded: LoadedModel, chosen: Chosen, facts: RunFacts, destination: Path, reporter: Reporter
) -> dict[str, Any]:
    """Write the page; ``loaded``: the unedited model, which is edited to find the hash of the model after.

    A model's hash is that of all its parameters' names and hashes, so it is the same wherever the model lies. Raises UserError if
    the folder is taken, or if the patches belong to another model.
    """
    from unierase_cli.editing.apply import apply_patches

    with reporter.phase("hash"):
        before = hash_json(sorted(hash_parameters(loaded).items()))
        apply_patches(loaded, chosen.patches())
        after = hash_json(sorted(hash_parameters(loaded).items()))
    erasure = chosen.erasure
    source = public_source(loaded.source, loaded.fingerprint)
    request = {
        "run": facts.run,
        "requests served": f"{facts.requests} (steps {listed(chosen.steps)})",
        **facts.about,
        "made": _day(erasure.manifest.get("finished")),
    }
    hashes = {"before": before, "after": after, **({} if source is None else {"unedited model": source})}
    page = erasure_page(
        facts.run, facts.forgotten, facts.scores, facts.audit, request=request, not_promised=facts.not_promised, hashes=hashes,
        verify=(
            (IN_SHELL, FACT_HASH),
            ("the hashes of the model", "unierase export RUN NEW_FOLDER --as erasure --base UNEDITED_MODEL"),
            ("that a model is the edited one", "unierase patch revert EDITED_MODEL RUN NEW_FOLDER --base UNEDITED_MODEL"),
            ("what it answers now", "unierase chat RUN"),
        ),
        command=f"unierase audit {facts.run}",
    )  # fmt: skip
    with new_folder(destination) as folder:
        (folder / PAGE).write_text(page, "utf-8")
    reporter.note(f"the erasure report is {destination / PAGE}; a browser prints it as a PDF")
    found = {"run": erasure.name, "destination": str(destination), "page": PAGE}
    return {**found, "facts": len(facts.forgotten), "before": before, "after": after}


def _day(finished: Any) -> str:
    import time

    return time.strftime("%Y-%m-%d", time.gmtime(finished)) if isinstance(finished, int | float) else "not recorded"
