"""Sampled answers: drawn from everything that the model holds possible, by seed."""

from __future__ import annotations

from tests.helpers.tiny_models import FACTS, tiny_llama
from unierase_cli.inference.sample import sample


def test_answers_are_drawn_from_the_whole_vocabulary_and_not_from_the_likeliest_tokens() -> None:
    loaded = tiny_llama()
    prompt = loaded.prompts.prompt(FACTS[0].question).ids
    first_words = sample(loaded, [prompt] * 600, seed=0, max_new_tokens=1)
    # The usual fifty of generate() would be too few for them.
    assert len(set(first_words)) > 60


def test_answers_are_the_same_for_the_same_seed_alone() -> None:
    loaded = tiny_llama()
    prompts = [loaded.prompts.prompt(fact.question).ids for fact in FACTS]
    drawn = [sample(loaded, prompts, seed=seed, max_new_tokens=8) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]
