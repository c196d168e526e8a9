"""Which blocks are edited: as configured, by the depth of the model, or as stage ``trace`` measured (``edit.layers=traced``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.edit import TRACED
from unierase_cli.contracts import UserError
from unierase_cli.pipeline.stage import Request, StageContext
from unierase_cli.results.one_run.trace_record import AGAIN, FILE, Trace
from unierase_cli.store.json_text import read_as

if TYPE_CHECKING:
    from unierase_cli.models.load import LoadedModel


def key_position(experiment: Experiment) -> str:
    """``edit.key_position``, else the model preset's."""
    return experiment.edit.key_position or experiment.model.key_position


def wanted_layers(experiment: Experiment) -> list[int] | str | None:
    """The configured layers; None means the default for the model's depth, ``traced`` those of the trace artefact."""
    named = experiment.edit.layers if experiment.edit.layers is not None else experiment.model.layers
    return named if named is None or named == TRACED else list(named)


def layer_needs(experiment: Experiment) -> dict[str, Request]:
    """The trace artefact if it chooses the layers, else nothing.

    Raises UserError if the trace would name no blocks to edit.
    """
    if wanted_layers(experiment) != TRACED:
        return {}
    if "mlp" not in experiment.trace.kinds:
        raise UserError(
            f"edit.layers={TRACED} reads the effects of MLPs, which trace.kinds leaves out", "trace.kinds=[mlp]"
        )
    if key_position(experiment) == "prompt_last" and experiment.trace.lead.strip():
        raise UserError(
            f"edit.layers={TRACED}: with trace.lead={experiment.trace.lead!r}, the prompt's last token is not measured",
            "leave out trace.lead, or set edit.key_position=subject_last",
        )
    return {"trace": Request("trace")}


def edited_layers(context: StageContext, loaded: LoadedModel) -> list[int]:
    """The blocks to edit, ascending. Raises UserError for blocks that the model does not have, and without a traced window."""
    wanted = wanted_layers(context.experiment)
    if wanted is None:
        layers = loaded.architecture.default_layers()
    elif wanted == TRACED:
        layers = _traced(context)
    else:
        layers = [int(layer) for layer in wanted]
    loaded.architecture.check_layers(layers)
    return layers


def _traced(context: StageContext) -> list[int]:
    """The window of MLPs with the largest effect where the edit writes.

    Block 0's MLP reads little more than the token, so a window without block 0 is taken where there is one: it is listed last.
    """
    position, artefact = key_position(context.experiment), context.inputs["trace"]
    windows = [w for w in read_as(artefact.file(FILE), Trace, AGAIN).windows if w.key_position == position]
    if not windows:
        raise UserError(
            f"{artefact.path} names no blocks for edit.key_position={position}: "
            "the model is too shallow, or no fact has such a token",
            "name the blocks with edit.layers=[...]",
        )
    layers = windows[-1].blocks
    context.reporter.note(f"edit.layers={TRACED}: blocks {layers}, by {artefact.path}")
    return layers
