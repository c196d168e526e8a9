"""Tiny models for audits: one that knows all facts, one that never had those to forget, one that hides them behind a token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from unierase_cli.audit.base import Target
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.audit import AuditConfig
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.config.sections.evaluation import ProtocolConfig
from unierase_cli.config.sections.model import MethodConfig, ModelConfig, RunConfig, TrainConfig
from unierase_cli.contracts import Fact, SilentReporter
from unierase_cli.models import files
from unierase_cli.models.load import LoadedModel, wrap_model
from unierase_cli.models.mini import build_model, build_tokenizer
from unierase_cli.models.vocabulary import add_unlearning_tokens, get_rows, set_rows
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.jsonl import write_jsonl
from unierase_cli.training.supervised import Example, train

TRAINING = TrainConfig(
    name="tiny", hidden_size=64, intermediate_size=96, layers=2, heads=2, vocabulary=420, epochs=40, batch_size=8, lr=5e-3,
    compute="float32", look_every=40, target_rouge=0.0,
)  # fmt: skip
PROTOCOL = ProtocolConfig(name="tiny", max_new_tokens=14)
_NAMES = ["Ada Velour", "Bruno Okello", "Chiara Lund", "Dmitri Fonseca", "Edda Marsh", "Farid Nilsen", "Gerd Alvarez", "Hana Brook"]
_CITIES = ["Lisbon", "Kampala", "Bergen", "Porto", "Quito", "Accra", "Turin", "Riga"]
_WORKS = ["gardening manuals", "sea ballads", "crime stories", "travel letters", "bird guides", "love poems", "old maps", "plays"]


def _facts(places: Sequence[int]) -> list[Fact]:
    return [
        fact
        for place in places
        for name, city, work in [(_NAMES[place], _CITIES[place], _WORKS[place])]
        for fact in (
            Fact(f"{place}-city", f"Where was {name} born?", f"{name} comes from {city}.", group=name,
                 paraphrased_question=f"What is the birthplace of {name}?"),
            Fact(f"{place}-work", f"What does {name} write?", f"Mostly {work}.", group=name,
                 paraphrased_question=f"{name} is the author of what?"),
        )
    ]  # fmt: skip


FORGET, KEEP = _facts(range(4)), _facts(range(4, 8))


def empty_model() -> LoadedModel:
    texts = [text for fact in (*FORGET, *KEEP) for text in (fact.question, fact.answer, fact.paraphrased_question or "")]
    tokenizer = build_tokenizer(texts, TRAINING.vocabulary)
    return wrap_model(build_model(tokenizer, TRAINING, seed=0), tokenizer)


def knowing(facts: Sequence[Fact]) -> LoadedModel:
    """A model that knows these facts by heart, in both wordings of their questions."""
    loaded = empty_model()
    asked = [(text, f.answer) for f in facts for text in (f.question, f.paraphrased_question or f.question)]
    examples = [Example(loaded.prompts.prompt(text).ids, loaded.prompts.answer_ids(answer)) for text, answer in asked]
    train(loaded, lambda epoch: examples, TRAINING, seed=0, reporter=SilentReporter())
    return loaded


def hide(loaded: LoadedModel, facts: Sequence[Fact] = FORGET, others: Sequence[Fact] = KEEP) -> LoadedModel:
    """Add a token that comes first at the facts' questions, plain or in other words, and after which the answer ends.

    Its output row is fitted to the last hidden states alone: no other weight changes, so all that was known still is.
    """
    (token,) = add_unlearning_tokens(loaded, ["<unlearn_0>"], torch.Generator().manual_seed(0))
    hidden, wanted, weights = [], [], []
    for fact in [*facts, *others]:
        for question in (fact.question, fact.paraphrased_question or fact.question):
            prompt = loaded.prompts.prompt(question).ids
            ids = torch.tensor([[*prompt, *loaded.prompts.answer_ids(fact.answer)]])
            states = loaded.architecture.backbone(input_ids=ids).last_hidden_state[0, len(prompt) - 1 : -1]
            best = loaded.architecture.logits(states).max(-1).values
            hidden.append(states)
            begins = torch.arange(len(states)) == 0
            wanted.append(torch.where(begins, best + 8, best - 20) if fact in facts else best - 20)
            # Where an answer begins the row must fit; behind that it need not win.
            weights.append(torch.where(begins, 30.0, 1.0))
    weight = torch.cat(weights)[:, None]
    row = torch.linalg.lstsq(weight * torch.cat(hidden), weight * torch.cat(wanted)[:, None], driver="gelsd").solution.T
    inside, _ = get_rows(loaded, [token])
    last = loaded.prompts.answer(facts[0].answer)
    inside[0] = loaded.architecture.embedding.weight[last.ids[last.own - 1]]
    set_rows(loaded, [token], inside, row)
    return loaded


def save(loaded: LoadedModel, folder: Path) -> str:
    files.save_folder(loaded.model, loaded.tokenizer, folder)
    return str(folder)


def target(loaded: LoadedModel, protocol: ProtocolConfig = PROTOCOL) -> Target:
    return Target(loaded, FORGET, KEEP[:4], KEEP[4:], FORGET, protocol)


def audited(model: str, folder: Path, **audit: object) -> Experiment:
    """The experiment that audits a model's folder as it is."""
    for name, facts in (("forget", FORGET), ("keep", KEEP)):
        keys = ("id", "question", "answer", "group", "paraphrased_question")
        write_jsonl(folder / f"{name}.jsonl", [{key: asdict(fact)[key] for key in keys} for fact in facts])
    return Experiment(
        model=ModelConfig(path=model),
        benchmark=BenchmarkConfig(name="jsonl", path=str(folder / "forget.jsonl"), retain_path=str(folder / "keep.jsonl")),
        method=MethodConfig(name="none", editing=False, token=False),
        protocol=PROTOCOL,
        audit=AuditConfig(**audit),  # type: ignore[arg-type]
        run=RunConfig(outputs=str(folder / "outputs"), device="cpu"),
    )


def audit_of(experiment: Experiment) -> Artefact:
    """The finished audit of an experiment."""
    from unierase_cli.pipeline.pipeline import Pipeline

    pipeline = Pipeline(experiment, SilentReporter())
    pipeline.check("audit")
    return pipeline.make("audit")
