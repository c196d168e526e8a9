"""Tests whether relearning a few forgotten facts brings back the others: recall on the other facts before and after some steps.

    python scripts/relearn.py RUN --facts 4 --steps 10 --lr 1e-4
"""

from __future__ import annotations

import argparse

import torch

from unierase_cli.contracts import Fact, SilentReporter, evenly_spaced
from unierase_cli.delivery.chat import open_run
from unierase_cli.delivery.edited_folder import recorded_experiment
from unierase_cli.delivery.export import find_erasure
from unierase_cli.delivery.patches import choose_steps
from unierase_cli.inference.observe import ask, observe, plan_batches
from unierase_cli.metrics import leak, rouge
from unierase_cli.models.load import LoadedModel
from unierase_cli.pipeline.study import study_of
from unierase_cli.store.artefacts import Store
from unierase_cli.training.unlearning.rows import collate, make_row

# Rows per step.
BATCH = 8


def recalled(loaded: LoadedModel, facts: list[Fact], protocol) -> tuple[float, float]:
    """ROUGE-L recall of the facts' answers, asked plainly and with the starts of the answers given."""
    found = []
    for variant, metric in (("plain", rouge), ("answer_prefix", leak)):
        asked = ask(loaded, facts, variant, protocol)
        batches = plan_batches(asked, 0, loaded.device.type)
        rows = [o for batch in observe(loaded, asked, batches, split="forget", variant=variant, protocol=protocol) for o in batch]
        found.append(float(metric.compute(rows).value))
    return found[0], found[1]


def relearn(loaded: LoadedModel, facts: list[Fact], steps: int, lr: float) -> None:
    """Train all weights with AdamW on the facts' true answers."""
    rows = [make_row(loaded.prompts.prompt(f.question).ids, loaded.prompts.answer_ids(f.answer)) for f in facts]
    loaded.model.requires_grad_(True)
    optimiser = torch.optim.AdamW(loaded.model.parameters(), lr=lr, weight_decay=0.0)
    for step in range(steps):
        chosen = [rows[(step * BATCH + i) % len(rows)] for i in range(min(BATCH, len(rows)))]
        batch = collate(chosen, loaded.prompts.pad_id, loaded.device)
        loss = loaded.model(input_ids=batch.ids, attention_mask=batch.mask, labels=batch.labels).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    loaded.model.requires_grad_(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--outputs", default="outputs")
    parser.add_argument("--facts", type=int, default=4, help="number of forgotten facts to relearn")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--lr", type=float, default=1e-4)
    words = parser.parse_args()
    store = Store(words.outputs)
    run = store.resolve(words.run)
    states = open_run(run, store, SilentReporter())
    experiment = recorded_experiment(choose_steps(find_erasure(run, store)))
    loaded, forget = states.loaded, list(study_of(experiment).benchmark.forget)
    shown = list(evenly_spaced(forget, words.facts))
    rest = [fact for fact in forget if fact not in shown]
    before = recalled(loaded, rest, experiment.protocol)
    relearn(loaded, shown, words.steps, words.lr)
    after = recalled(loaded, rest, experiment.protocol)
    print(f"{run.full_name}: {len(shown)} of {len(forget)} facts relearned, {words.steps} steps of {words.lr:g}")
    print(f"the other {len(rest)}, ROUGE-L recall: {before[0]:.3f} -> {after[0]:.3f}")
    print(f"with the answer's start given:    {before[1]:.3f} -> {after[1]:.3f}")


if __name__ == "__main__":
    main()
