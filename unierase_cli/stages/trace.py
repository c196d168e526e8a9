"""Stage ``trace``: which blocks, at which tokens, carry the facts that are to be forgotten (causal tracing).

Facts are traced a few at a time and appended as they come, so that an interrupted run resumes with those that are missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import exp
from typing import TYPE_CHECKING, Any

from unierase_cli.config.counted import counted
from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import UserError, evenly_spaced
from unierase_cli.estimate.shapes import shape_of
from unierase_cli.metrics.statistics.bootstrap import mean_interval
from unierase_cli.pipeline.model_states import load_base, model_fingerprints, model_needs, model_settings
from unierase_cli.pipeline.stage import Request, StageContext
from unierase_cli.pipeline.study import Study
from unierase_cli.results.one_run import trace_picture
from unierase_cli.results.one_run.trace_record import FILE, PICTURE, Curve, Trace, Window, conclusions, to_json
from unierase_cli.store.hashing import hash_json
from unierase_cli.store.json_text import write_json
from unierase_cli.store.jsonl import append_jsonl, read_jsonl

if TYPE_CHECKING:
    from unierase_cli.editing.tracing.effects import Traced
    from unierase_cli.editing.tracing.prompts import TraceRequest
    from unierase_cli.models.load import LoadedModel

NAME = "trace"
VERSION = 1
FACTS = "facts.jsonl"
# Facts between two writings.
CHUNK = 4
DIGITS = 7
NOT_ANSWERED = "the model does not answer them"
Row = dict[str, Any]


def reads(study: Study, options: dict[str, str]) -> dict[str, Any]:
    """How the model is run and prompted, and how it is traced."""
    experiment = study.experiment
    return {"model": model_settings(experiment), "trace": counted(experiment.trace), "seed": experiment.run.seed}


def needs(study: Study, options: dict[str, str]) -> dict[str, Request]:
    return model_needs(study.experiment)


def fingerprints(study: Study, options: dict[str, str]) -> dict[str, str]:
    """Of the model, and of the facts with what decides their subjects."""
    rows = [[f.id, f.question, f.answer, f.subject, f.group, *f.kind_key] for f in study.benchmark.forget]
    return {**model_fingerprints(study.experiment), "facts": hash_json(rows)}


def check(study: Study) -> None:
    """Raise UserError for a window that does not fit the model, as far as its number of blocks is known before it is loaded."""
    from unierase_cli.editing.tracing.effects import check_window

    shape, _ = shape_of(study.experiment)
    if shape is not None and study.experiment.trace.window is not None:
        check_window(study.experiment.trace.window, shape.blocks)


def run(context: StageContext) -> dict[str, Any]:
    """Trace the facts that the model answers; write the effects of each, their means and the picture."""
    from unierase_cli.editing.tracing.effects import check_window

    experiment, reporter = context.experiment, context.reporter
    loaded = load_base(experiment, context.inputs, reporter)
    default = loaded.architecture.default_layers()
    window = len(default) if experiment.trace.window is None else experiment.trace.window
    check_window(window, loaded.architecture.n_blocks)
    with reporter.phase("ask"):
        answered, skipped = _answered(context, loaded)
    chosen = evenly_spaced(answered, experiment.trace.facts or len(answered))
    with reporter.phase("trace"):
        rows = _traced(context, loaded, chosen, window)
    trace = _means(rows, experiment, skipped, window, default, loaded.architecture.n_blocks)
    trace = replace(trace, asked=len(context.study.benchmark.forget), answered=len(answered))
    if trace.corrupted["probability"] >= trace.clean["probability"]:
        reporter.warn("noise on the subjects does not make the answers less likely, so the effects say nothing: raise trace.noise")
    write_json(context.directory / FILE, to_json(trace))
    trace_picture.draw(trace, context.directory / PICTURE, title=f"{experiment.model.name}: {trace.facts} facts")
    return {"facts": trace.facts, "answered": len(answered), "skipped": dict(skipped), "conclusions": conclusions(trace)}


def _answered(context: StageContext, loaded: LoadedModel) -> tuple[list[TraceRequest], Counter[str]]:
    """What can be traced, and how many facts cannot be for which reason. Raises UserError where nothing is left."""
    from unierase_cli.editing.subjects import find_subjects
    from unierase_cli.editing.tracing.prompts import trace_requests
    from unierase_cli.inference.logprobs import score_answers

    trace, facts = context.experiment.trace, context.study.benchmark.forget
    named = [replace(fact, subject=subject) for fact, subject in zip(facts, find_subjects(facts), strict=True)]
    requests, reasons = trace_requests(loaded.prompts, named, trace.lead)
    skipped = Counter(reasons.values())
    if not requests:
        told = ", ".join(f"{count} {reason}" for reason, count in skipped.items())
        raise UserError(f"none of the {len(facts)} facts to forget can be traced: {told}", "give each fact a `subject`")
    scores = score_answers(
        loaded, [(request.ids[: request.prompt], request.answer) for request in requests],
        batch_size=context.experiment.eval.batch_size,
    )  # fmt: skip
    first = [exp(score.log_probs[0]) for score in scores]
    answered = [request for request, p in zip(requests, first, strict=True) if p >= trace.floor]
    if not answered:
        what = f"the model answers none of {len(requests)} facts: "
        what += f"the highest probability of an answer's first token is {max(first):.3f}"
        lead = "trace.lead='Answer:'" if not trace.lead else "another trace.lead"
        raise UserError(
            f"{what} (trace.floor={trace.floor:g})",
            f"type {lead} if the model answers in sentences, else take facts that it knows (unierase prepare)",
        )
    if len(answered) < len(requests):
        skipped[NOT_ANSWERED] = len(requests) - len(answered)
    return answered, skipped


def _traced(context: StageContext, loaded: LoadedModel, chosen: Sequence[TraceRequest], window: int) -> list[Row]:
    """The facts' rows, in order; those that the file has already are not traced again."""
    from unierase_cli.editing.tracing.effects import trace
    from unierase_cli.editing.tracing.prompts import draw_noise, embedding_deviation

    config, seed, path = context.experiment.trace, context.experiment.run.seed, context.directory / FACTS
    architecture = loaded.architecture
    deviation = config.noise * embedding_deviation(architecture, chosen)
    done = {row["id"]: row for row in read_jsonl(path, torn_tail=True)} if path.exists() else {}
    left = [request for request in chosen if request.fact_id not in done]
    with context.reporter.progress("tracing facts", len(left)) as advance:
        for start in range(0, len(left), CHUNK):
            part = left[start : start + CHUNK]
            noise = [draw_noise(r, config.samples, architecture.hidden_size, deviation, seed) for r in part]
            found = trace(
                architecture, part, noise, config.kinds, window,
                pad_id=loaded.prompts.pad_id, batch_tokens=config.batch_tokens, class_tokens=config.class_tokens,
                room=loaded.room,
            )  # fmt: skip
            rows = [_row(one) for one in found]
            append_jsonl(path, rows)
            done |= {row["id"]: row for row in rows}
            advance(len(part))
    return [done[request.fact_id] for request in chosen]


def _row(traced: Traced) -> Row:
    """A fact as a line of ``facts.jsonl``: measure -> value, and kind -> class of tokens -> measure -> one effect per block."""
    from unierase_cli.editing.tracing.effects import MEASURES

    def numbers(values: Any) -> dict[str, Any]:
        return {name: _rounded(values[..., place].tolist()) for place, name in enumerate(MEASURES)}

    effects = {kind: {name: numbers(v) for name, v in by_class.items()} for kind, by_class in traced.effects.items()}
    return {
        "id": traced.fact_id,
        "clean": numbers(traced.clean),
        "corrupted": numbers(traced.corrupted),
        "effects": effects,
    }


def _rounded(value: Any) -> Any:
    return [_rounded(item) for item in value] if isinstance(value, list) else round(value, DIGITS)


def _means(
    rows: Sequence[Row], experiment: Experiment, skipped: Mapping[str, int], window: int, default: list[int], blocks: int
) -> Trace:
    from unierase_cli.editing.tracing.effects import MEASURES
    from unierase_cli.editing.tracing.prompts import CLASSES

    curves = [
        curve
        for kind in experiment.trace.kinds
        for position in CLASSES
        for measure in MEASURES
        if (curve := _curve(rows, kind, position, measure)) is not None
    ]
    clean, corrupted = (
        {measure: sum(row[state][measure] for row in rows) / len(rows) for measure in MEASURES}
        for state in ("clean", "corrupted")
    )
    found = Trace(blocks, window, 0, 0, len(rows), dict(skipped), clean, corrupted, curves, default, [])
    return replace(found, windows=_windows(found, experiment.trace.lead))


def _curve(rows: Sequence[Row], kind: str, position: str, measure: str) -> Curve | None:
    """The means over the facts that have a token of this class; None where no fact has."""
    effects = [row["effects"][kind][position][measure] for row in rows if position in row["effects"][kind]]
    if not effects:
        return None
    by_block = list(zip(*effects, strict=True))
    intervals = [interval for values in by_block if (interval := mean_interval(values)) is not None]
    means = [sum(values) / len(values) for values in by_block]
    return Curve(kind, position, measure, len(effects), means, [low for low, _ in intervals], [high for _, high in intervals])


def _windows(trace: Trace, lead: str) -> list[Window]:
    """For both tokens that an edit may write at: the MLPs with the largest effect. Block 0's MLP reads little more than the token,
    so its effect need not be the fact's: where it is among them, the window with the largest effect above it follows.

    With a ``lead``, the last prompt token is the lead's, where no edit writes: no window is proposed for it.
    """
    from unierase_cli.editing.tracing.effects import best_window, window_around
    from unierase_cli.editing.tracing.prompts import END, LAST

    found = []
    for key_position, position in (("subject_last", LAST), ("prompt_last", END)):
        curve = trace.curve("mlp", position)
        if curve is None or (position == END and lead.strip()):
            continue
        centres = [best_window(curve.mean, trace.window, first) for first in (0, 1)]
        # One and the same unless block 0 is in the first.
        for centre in dict.fromkeys(centre for centre in centres if centre is not None):
            blocks = list(window_around(centre, trace.window, trace.blocks))
            found.append(Window(key_position, position, blocks, centre))
    return found
