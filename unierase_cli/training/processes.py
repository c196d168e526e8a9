"""Communication between processes that train or evaluate one model (``accelerate launch -m unierase_cli ...``, ``torchrun``).

Imports torch only when there are other processes, because commands ask for their rank before anything heavy is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from unierase_cli.store.environment import whole_number

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
# The other processes wait while the first one evaluates, which may take hours.
PATIENCE = timedelta(days=7)


_alone = False


def world() -> int:
    """Number of processes, from the launcher's environment; 1 after ``go_on_alone``."""
    return 1 if _alone else whole_number("WORLD_SIZE", 1)


def rank() -> int:
    """This process's index, from 0."""
    return whole_number("RANK", 0)


def local_rank() -> int:
    """This process's index on its machine, which selects its GPU."""
    return whole_number("LOCAL_RANK", 0)


def join() -> None:
    """Initialise the process group (gloo for CPU tensors, nccl for GPUs); a single process does nothing."""
    if world() == 1:
        return
    import torch
    import torch.distributed as dist

    if not dist.is_initialized():
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(local_rank() % torch.cuda.device_count())
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=PATIENCE)


def share(items: Sequence[T]) -> list[T]:
    """This process's part of a list: every ``world()``-th item from ``rank()`` on."""
    return list(items[rank() :: world()])


def in_order(mine: Iterator[T], count: int) -> Iterator[T]:
    """The results of ``count`` items in order, of which each process computes its ``share``.

    The first process yields them as soon as every process has computed one more item; the others iterate but yield nothing.
    """
    if world() == 1:
        yield from mine
        return
    import torch.distributed as dist

    join()
    for start in range(0, count, world()):
        found: list[Any] | None = [None] * world() if rank() == 0 else None
        dist.gather_object(next(mine, None), found)
        yield from (found or [])[: count - start]


def of_first(make: Callable[[], T]) -> T:
    """The result of ``make`` on the first process, returned on every process; only the first one calls it."""
    if rank() > 0:
        return hear()
    made = make()
    tell(made)
    return made


def add_up(values: Sequence[float]) -> list[float]:
    """Each value summed over all processes."""
    if world() == 1:
        return list(values)
    import torch
    import torch.distributed as dist

    join()
    total = torch.tensor(list(values), dtype=torch.float64)
    dist.all_reduce(total)
    return [float(value) for value in total]


def add_up_named(values: dict[str, float]) -> dict[str, float]:
    """Each named value summed over all processes; a process may lack some names."""
    if world() == 1:
        return values
    import torch.distributed as dist

    join()
    found: list[dict[str, float]] = [{} for _ in range(world())]
    dist.all_gather_object(found, values)
    names = dict.fromkeys(name for one in found for name in one)
    return {name: sum(one.get(name, 0.0) for one in found) for name in names}


def add_up_gradients(parameters: Iterable[Tensor]) -> None:
    """Sum every parameter's gradient over all processes, in place; a process without a gradient contributes zeros.

    Gradients of sharded parameters are already means over the processes, so they are multiplied by the number of processes.
    """
    if world() == 1:
        return
    import torch
    import torch.distributed as dist
    from torch.distributed.tensor import DTensor

    join()
    for parameter in parameters:
        if isinstance(parameter, DTensor):
            if parameter.grad is not None:
                parameter.grad.mul_(world())
            continue
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)


def wait() -> None:
    """Block until every process is here."""
    if world() > 1:
        import torch.distributed as dist

        join()
        dist.barrier()


def tell(message: Any) -> None:
    """Send a message to all other processes, which ``hear`` it."""
    if world() > 1:
        import torch.distributed as dist

        join()
        dist.broadcast_object_list([message], src=0)


def hear() -> Any:
    """The next message of the first process."""
    import torch.distributed as dist

    join()
    heard: list[Any] = [None]
    dist.broadcast_object_list(heard, src=0)
    return heard[0]


def go_on_alone() -> None:
    """Stop communicating: after a failure the other processes may be in the middle of a step."""
    global _alone
    _alone = True


def leave() -> None:
    """Close the process group, on all processes together, once nothing uses it any more."""
    if world() > 1:
        import gc

        import torch.distributed as dist

        if dist.is_initialized():
            gc.collect()
            dist.barrier()
            dist.destroy_process_group()
