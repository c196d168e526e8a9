"""Exports a run's edit: a merged model, a GGUF file, only the patches, or a LoRA adapter for peft."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unierase_cli.contracts import Reporter, UserError
from unierase_cli.delivery.edited_folder import recorded_experiment, write_edited
from unierase_cli.delivery.leaving import at_home, check_complete, public_name, public_source, withheld
from unierase_cli.delivery.patches import Chosen, choose_steps
from unierase_cli.pipeline.model_states import load_base, model_needs
from unierase_cli.pipeline.stage import Request
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store
from unierase_cli.store.new_folder import check_free

if TYPE_CHECKING:
    from unierase_cli.models.load import LoadedModel

KINDS = ("model", "patch", "lora", "gguf", "erasure")


def find_erasure(run: Artefact, store: Store) -> Artefact:
    """The erase artefact that ``run`` is, or was made from."""
    if run.stage == "erase":
        return run
    queue = [run]
    while queue:
        current = queue.pop(0)
        for found in store.inputs_of(current).values():
            if found is not None and found.stage == "erase":
                return found
            if found is not None:
                queue.append(found)
    raise UserError(f"{run.name} was not made from an edit", "name a run of stage erase, score or report")


def export(
    run: Artefact,
    destination: Path,
    reporter: Reporter,
    outputs: str = "outputs",
    *,
    kind: str = "model",
    rank: int | None = None,
    until: int | None = None,
    base: str | None = None,
    device: str = "auto",
    card: bool = False,
    push: str | None = None,
    public: bool = False,
) -> dict[str, Any]:
    """Write the edit of ``run``, up to and including step ``until``, to ``destination``.

    ``kind``: ``model`` is a plain Hugging Face folder, for which ``AutoModelForCausalLM.from_pretrained(destination)``
    gives the logits of the evaluated model; ``patch`` is what ``unierase patch apply`` needs; ``lora`` is what ``peft``
    loads, of ``rank`` if given; ``gguf`` is a copy of the GGUF file that the run edited; ``erasure`` is one page for whoever asked
    for it. ``base``: the unedited model, if it has moved since the run. ``card``: also write a model card; ``push``: and send all
    of it to this repository of the hub. Raises UserError if the folder is taken, if the run has no edit, or if the edit cannot be
    exported as that kind.
    """
    if kind not in KINDS:
        raise UserError(f"--as {kind} is not a way to export", f"choose {', '.join(KINDS)}")
    if rank is not None and (kind != "lora" or rank < 1):
        raise UserError(f"--rank {rank} does not go with --as {kind}", "--as lora --rank 16")
    if kind == "erasure" and (card or push):
        raise UserError("an erasure report is a page, not a model with a card", "leave out --card and --push")
    if public and push is None:
        raise UserError("--public says what --push makes, and there is no --push", "--push OWNER/NAME --public")
    if push is not None:
        from unierase_cli.delivery.push import check_push

        check_push(push, public=public)
    check_free(destination)
    store = Store(outputs)
    chosen = choose_steps(find_erasure(run, store), until)
    found = _write(chosen, store, destination, reporter, kind, rank, base, device)
    if card or push is not None:
        found["card"] = str(_card(chosen, store, destination, kind, push or destination.name))
    if push is not None:
        from unierase_cli.delivery.push import push as send

        found["pushed"] = send(destination, push, public=public)
        reporter.note(f"pushed to {found['pushed']}")
    return found


def _write(
    chosen: Chosen,
    store: Store,
    destination: Path,
    reporter: Reporter,
    kind: str,
    rank: int | None,
    base: str | None,
    device: str,
) -> dict[str, Any]:
    if kind == "patch":
        from unierase_cli.delivery.export_patch import export_patch

        return export_patch(chosen, destination, reporter)
    if kind == "lora":
        from unierase_cli.delivery.export_adapter import check_low_rank, export_adapter

        check_low_rank(chosen)
        # The adapter is compared on the prompts of its forget set.
        chosen = replace(chosen, erasure=at_home(chosen.erasure, store))
        check_complete(chosen.erasure, "an adapter's comparison with the edited model", without="model.path")
        return export_adapter(load_unedited(chosen, store, reporter, base, device), chosen, destination, reporter, rank)
    loaded = load_unedited(chosen, store, reporter, base, device)
    if kind == "erasure":
        from unierase_cli.delivery.erasure_report import write_erasure_report
        from unierase_cli.delivery.run_facts import run_facts

        return write_erasure_report(loaded, chosen, run_facts(chosen, store), destination, reporter)
    if kind == "gguf":
        from unierase_cli.delivery.export_gguf import source_file, write_gguf

        source_file(loaded.source)
        return write_edited(loaded, chosen, destination, reporter, write_gguf)
    return write_edited(loaded, chosen, destination, reporter)


def _card(chosen: Chosen, store: Store, destination: Path, kind: str, name: str) -> Path:
    from unierase_cli.delivery.model_card import write_card
    from unierase_cli.delivery.run_facts import run_facts

    manifest = chosen.erasure.manifest
    base = public_source(chosen.erasure.config["model"]["path"], manifest.get("fingerprints", {}).get("model"))
    return write_card(destination, kind, run_facts(chosen, store), base, name)


def load_unedited(chosen: Chosen, store: Store, reporter: Reporter, base: str | None, device: str) -> LoadedModel:
    """The model that the run edited: from ``base`` if given, else from where the run had it."""
    from unierase_cli.delivery.edited_folder import load_folder

    if base is not None:
        return load_folder(chosen, base, reporter, device)
    chosen = replace(chosen, erasure=at_home(chosen.erasure, store))
    experiment = recorded_experiment(chosen, device)
    if "model.path" in withheld(chosen.erasure):
        raise UserError(
            f"{public_name(chosen.erasure)} is an exported run, which does not record where its model is",
            "give the unedited model with --base FOLDER",
        )
    inputs = {name: _input(chosen.erasure, name, need, store) for name, need in model_needs(experiment).items()}
    return load_base(experiment, inputs, reporter)


def _input(erasure: Artefact, name: str, need: Request, store: Store) -> Artefact:
    found = store.input_of(erasure, name)
    if found is None:
        raise UserError(
            f"the {need.stage} artefact that {erasure.name} was made from is gone",
            "give the unedited model with --base FOLDER, or run the experiment again",
        )
    return found
