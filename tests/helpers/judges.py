"""A judge that is a tiny classifier on disk, and judges opened as the score stage opens them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.helpers.tiny_models import tiny_tokenizer
from unierase_cli.metrics.judges import models as judge_models


def opened(kind: str, folder: Path | str) -> Any:
    """The judge of a folder, in this process."""
    return judge_models.open_judge(kind, str(folder), Path(folder))


def classifier(folder: Path, *labels: str, headless: bool = False) -> Path:
    """A tiny BERT whose classes have these names; ``headless``: without the layer that tells them apart."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=64, id2label=dict(enumerate(labels)), label2id={n: i for i, n in enumerate(labels)},
    )  # fmt: skip
    model: Any = BertForSequenceClassification(config)
    (model.bert if headless else model).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
