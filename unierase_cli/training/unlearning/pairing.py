"""The retain row and the refusal paired with a forget row in closer-look's data: a fixed function of the row's index."""

from __future__ import annotations

import torch


def closer_look_pair(index: int, n_retain: int, n_refusals: int) -> tuple[int, int]:
    """(retain index, refusal index) of forget row ``index``, the same in every epoch (specification, section 1).

    The reference seeds torch's global generator with the index; this uses a separate generator.
    """
    generator = torch.Generator().manual_seed(index)
    shift = int(torch.randint(n_retain, (), generator=generator))
    return (index + shift) % n_retain, int(torch.randint(n_refusals, (), generator=generator))
