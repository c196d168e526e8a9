"""Stage ``moments``: second moments of the edited layers' keys over protected texts, as eigenvalues and eigenvectors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unierase_cli.config.counted import counted
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.edit import ANSWERS, AUTO, HUB
from unierase_cli.contracts import Fact, UserError, evenly_spaced
from unierase_cli.methods.parts import parts_of
from unierase_cli.pipeline.model_states import load_base, model_fingerprints, model_needs, model_settings, stop_texts
from unierase_cli.pipeline.stage import Request, StageContext
from unierase_cli.pipeline.study import Study
from unierase_cli.stages.shared.edited_layers import edited_layers, layer_needs, wanted_layers
from unierase_cli.store.hashing import hash_file, hash_json
from unierase_cli.store.json_text import write_json
from unierase_cli.store.jsonl import append_jsonl, read_jsonl

if TYPE_CHECKING:
    from unierase_cli.models.load import LoadedModel

NAME = "moments"
VERSION = 4
RECORD = "moments.json"
# The model's own answers to protected questions, as token ids.
ANSWERED, AT_A_TIME = "answers.jsonl", 64
# Protected questions that edit.keep_first holds out.
WATCHED = 32


def reads(study: Study, options: dict[str, str]) -> dict[str, Any]:
    """The layers, the corpus, the prompt format and what ends the model's answers; not how the edit uses the moments."""
    experiment = study.experiment
    return {
        "layers": wanted_layers(experiment),
        "moments": counted(experiment.edit.moments) | ({} if _reads_answers(experiment) else {"answer_tokens": 0}),
        "model": model_settings(experiment),
        "seed": experiment.run.seed if experiment.edit.moments.samples else None,
        "stop": stop_texts(experiment) if _reads_answers(experiment) else [],
    }


def needs(study: Study, options: dict[str, str]) -> dict[str, Request]:
    return model_needs(study.experiment) | layer_needs(study.experiment)


def fingerprints(study: Study, options: dict[str, str]) -> dict[str, str]:
    """Fingerprints of the model, of a corpus file, and of the protected facts if they are read."""
    found = model_fingerprints(study.experiment)
    moments = study.experiment.edit.moments
    of_protected = moments.corpus in (ANSWERS, AUTO)
    given = {"corpus": moments.corpus} if not of_protected and moments.corpus_weight > 0 else {}
    for key, name in (given | ({"texts": moments.texts} if moments.texts is not None else {})).items():
        if name.startswith(HUB):
            continue
        if not Path(name).is_file():
            others = ", or answers, or auto" if key == "corpus" else f", or {HUB}DATASET/CONFIG/SPLIT/COLUMN"
            raise UserError(f"edit.moments.{key}={name} does not exist", f"give a JSON Lines file with `text`{others}")
        found[key] = hash_file(Path(name))
    if moments.prompt_end_weight > 0 or (of_protected and moments.corpus_weight > 0):
        found["protect"] = hash_json([[f.question, f.answer, *f.kind_key] for f in preserved(study)])
    return found


def preserved(study: Study) -> tuple[Fact, ...]:
    """The facts whose questions an edit must preserve: those to retain, and those that lead to an earlier token."""
    benchmark, apart = study.benchmark, {fact.id for fact in watched(study)}
    return (*(fact for fact in benchmark.protect if fact.id not in apart), *benchmark.forgotten)


def watched(study: Study) -> tuple[Fact, ...]:
    """The protected facts that are held out for ``edit.keep_first``, evenly spaced; none without it or without an edit.

    Raises UserError where too few would be left to protect, and where steps depend on each other: they share one alpha.
    """
    # Methods that train read no section ``edit``.
    edits = any(part.method.editing for part in parts_of(study.experiment).values())
    if study.experiment.edit.keep_first is None or not edits:
        return ()
    if study.stepwise:
        raise UserError("edit.keep_first chooses alpha for one edit", "give edit.alpha, or mode=batch")
    protect = study.benchmark.protect
    if len(protect) < 2 * WATCHED:
        raise UserError(
            f"edit.keep_first holds out {WATCHED} protected questions, and there are {len(protect)}", "give edit.alpha instead"
        )
    return tuple(evenly_spaced(protect, WATCHED))


def _reads_answers(experiment: Experiment) -> bool:
    return experiment.edit.moments.corpus == ANSWERS and experiment.edit.moments.corpus_weight > 0


def run(context: StageContext) -> dict[str, Any]:
    """One pass over the texts, then one eigendecomposition per layer."""
    return measure(context, load_base(context.experiment, context.inputs, context.reporter), context.directory)


def measure(context: StageContext, loaded: LoadedModel, directory: Path) -> dict[str, Any]:
    """Write the moments of a loaded model to ``directory``; returns the record, which is written too."""
    from unierase_cli.editing.corpus import moment_sources
    from unierase_cli.editing.moments import FILE, decompose, second_moments
    from unierase_cli.store.tensors import save_tensors

    experiment, reporter = context.experiment, context.reporter
    layers = edited_layers(context, loaded)
    protect = preserved(context.study)
    with reporter.phase("read corpus"):
        answer = _answerer(context, loaded, directory)
        sources = moment_sources(loaded.prompts, experiment.edit.moments, protect, experiment.run.seed, answer)
    if not sources:
        reporter.warn(
            "nothing is protected: there is no text to keep; give edit.moments.corpus=FILE or a benchmark with retain facts"
        )
    with reporter.phase("moments"):
        sums = second_moments(
            loaded, layers, sources, batch_tokens=experiment.edit.moments.batch_tokens, reporter=reporter
        )
    tensors, record = {}, {}
    with reporter.phase("eigendecomposition"), reporter.progress("eigendecomposition", len(layers)) as advance:
        for layer in layers:
            moment = decompose(sums.pop(layer))
            tensors[f"layer.{layer}.eigenvalues"] = moment.eigenvalues
            tensors[f"layer.{layer}.eigenvectors"] = moment.eigenvectors
            values = moment.eigenvalues
            record[str(layer)] = {
                "size": values.numel(),
                "smallest": float(values[0]),
                "largest": float(values[-1]),
                "trace": float(values.sum()),
            }
            advance()
    save_tensors(directory / FILE, tensors)
    summary = {
        "layers": record,
        "sources": [
            {"name": s.name, "weight": s.weight, "texts": len(s.sequences), "tokens": s.tokens} for s in sources
        ],
        "tokens": sum(s.tokens for s in sources),
    }
    write_json(directory / RECORD, summary)
    told = ", ".join(f"{s.tokens} tokens of {s.name} (weight {s.weight:g})" for s in sources) or "nothing"
    reporter.note(f"second moments of layers {layers} over {told}")
    return summary


def _answerer(context: StageContext, loaded: LoadedModel, directory: Path) -> Callable[[list[list[int]]], list[list[int]]]:
    """Answers prompts as the model would, a few at a time, and keeps the answers for an interrupted run to go on from."""
    from unierase_cli.inference.generate import generate

    experiment, kept = context.experiment, directory / ANSWERED

    def answer(prompts: list[list[int]]) -> list[list[int]]:
        answers = [row["ids"] for row in read_jsonl(kept, torn_tail=True)] if kept.exists() else []
        with context.reporter.progress("answering protected questions", len(prompts)) as advance:
            advance(len(answers))
            while rest := prompts[len(answers) : len(answers) + AT_A_TIME]:
                found = generate(
                    loaded,
                    rest,
                    max_new_tokens=experiment.edit.moments.answer_tokens,
                    batch_size=experiment.eval.batch_size,
                )
                append_jsonl(kept, [{"ids": said.ids} for said in found])
                answers += [said.ids for said in found]
                advance(len(rest))
        return answers

    return answer
