"""The model card of a model trained by this tool."""

from __future__ import annotations

from typing import Any

from unierase_cli.config.schema import Experiment
from unierase_cli.markdown import code, inline
from unierase_cli.models.load import LoadedModel


def model_card(experiment: Experiment, loaded: LoadedModel, summary: dict[str, Any]) -> str:
    """Markdown: what the model is, how it was made, and what was measured on it."""
    train, benchmark, config = experiment.train, experiment.benchmark, loaded.model.config
    path, end = experiment.model.path, str(loaded.tokenizer.convert_ids_to_tokens(loaded.prompts.end_id))
    origin = f"{code(path)} trained further" if path else "trained from scratch"
    knows = "" if path else " It knows these and little else."
    rows = "\n".join(f"| {name.replace('_', ' ')} | {value:.3f} |" for name, value in summary["measured"].items())
    asked = f"benchmark {code(benchmark.name)}, split {inline(train.split)} (seed {benchmark.seed})"
    return f"""# {type(loaded.model).__name__} trained on {asked}

A model for experiments on forgetting, {origin} on {summary["facts"]} questions with their answers and on
{summary["refused_questions"]} questions about people who do not exist, answered with a listed refusal drawn again each
epoch.{knows}

| greedy answers | |
|---|---|
{rows}

(`recall`: mean ROUGE-L recall over all facts; `worst part`: over the worst tenth of them; `refused`: share of the questions
about nobody that get a listed refusal, ROUGE-L F1 of at least 0.8.)

* {summary["parameters"] / 1e6:.2f} M parameters in float32: vocabulary {config.vocab_size}, hidden {config.hidden_size},
  {config.num_hidden_layers} blocks, {"tied" if loaded.architecture.tied else "untied"} head.
* {summary["epochs"]} of at most {train.epochs} epochs, batch {train.batch_size}, AdamW {train.lr:g} (warm-up, cosine), weight
  decay {train.weight_decay:g}, clipping at {train.clip:g}, seed {experiment.run.seed}; last training loss {summary["loss"]:.4f}.
* Prompt: {code(repr(summary["first_prompt"]))}, answers closed by {code(end)};
  the same as chat template. There is no unlearning token in the vocabulary.
"""
