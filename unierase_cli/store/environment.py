"""Environment variables of cooperating processes (torchrun, accelerate), read as untrusted input."""

from __future__ import annotations

import os

from unierase_cli.contracts import UserError

# Variables that torch needs for a process group besides WORLD_SIZE, all set by the launchers.
MEETING = ("RANK", "MASTER_ADDR", "MASTER_PORT")
LAUNCHERS = "unset it, or start the command with torchrun or accelerate launch"


def whole_number(name: str, default: int) -> int:
    """The non-negative integer in a variable; ``default`` if it is not set. Raises UserError for anything else."""
    text = os.environ.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise UserError(f"the environment's {name}={text} is not a whole number of at least 0", LAUNCHERS)
    return int(text)


def check_processes() -> None:
    """Raise UserError if the environment does not describe a valid process group."""
    world, rank = whole_number("WORLD_SIZE", 1), whole_number("RANK", 0)
    whole_number("LOCAL_RANK", 0)
    if world > 1 and (missing := [name for name in MEETING if not os.environ.get(name)]):
        what = f"the environment's WORLD_SIZE={world} says that other processes take part, but {missing[0]} is not set"
        raise UserError(what, LAUNCHERS.replace("it", "WORLD_SIZE", 1))
    if world < 1:
        raise UserError(f"the environment's WORLD_SIZE={world} is not a number of processes", LAUNCHERS)
    if rank >= world:
        raise UserError(
            f"the environment's RANK={rank} is not below its WORLD_SIZE={world}", LAUNCHERS.replace("it", "RANK", 1)
        )
