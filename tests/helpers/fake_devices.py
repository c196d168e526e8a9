"""Two devices on a machine that has one: memory of the CPU under the names ``cpu:1``, ``cpu:2``, ... that does not mix.

Inside ``FakeDevices`` every call of torch's Python interface is looked at. A tensor lies where it was put (by ``device=``, ``.to``,
``.cpu``), its storage carries the name, and an operation that takes tensors of two devices raises, as it does on two GPUs; what
torch allows there is allowed here: tensors without dimensions, ``copy_``, and indices on the plain CPU. Numbers are the CPU's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

CPU = torch.device("cpu")
# Calls that read, print or set attributes, or copy from one device to another.
FREE = {"copy_", "__get__", "__set__", "__repr__", "__format__", "tolist", "item", "backward", "__deepcopy__", "set_"}


class FakeDevices(TorchFunctionMode):
    """``moves`` counts how often tensors went from one device to another."""

    def __init__(self) -> None:
        super().__init__()
        self._names: WeakKeyDictionary[torch.UntypedStorage, torch.device] = WeakKeyDictionary()
        self.moves = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), func.__name__
        if getattr(func, "__self__", None) is torch.Tensor.device:
            return self.device(args[0])
        if name in ("to", "cpu") and isinstance(args[0], Tensor):
            return self._moved(func, args, kwargs)
        wanted = kwargs.get("device")
        if wanted is not None:
            kwargs["device"] = CPU
        here = self._common(name, args, kwargs)
        # What autograd makes out of sight (a gradient) lies where its tensor does, and is named when it is asked for.
        result = func(*args, **kwargs)
        target = torch.device(wanted) if wanted is not None else here
        for tensor in _tensors([result]):
            self._names.setdefault(tensor.untyped_storage(), target)
        return result

    def device(self, tensor: Tensor) -> torch.device:
        """Where a tensor lies."""
        return self._names.get(tensor.untyped_storage(), CPU)

    def _moved(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Tensor:
        source, target = self.device(args[0]), self.device(args[0])
        plain: list[Any] = [args[0]]
        for value in args[1:]:
            if isinstance(value, str | torch.device):
                target = torch.device(value)
            elif isinstance(value, Tensor):
                target = self.device(value)
                plain.append(value.dtype)
            else:
                plain.append(value)
        if kwargs.get("device") is not None:
            target = torch.device(kwargs.pop("device"))
        if func.__name__ == "cpu":
            target = CPU
        result = func(*plain, **kwargs)
        if target != source:
            self.moves += 1
            # A copy, through which gradients still flow.
            result = result.clone() if result.untyped_storage() is args[0].untyped_storage() else result
        self._names.setdefault(result.untyped_storage(), target)
        return result

    def _common(self, name: str, args: Any, kwargs: dict[str, Any]) -> torch.device:
        """The device of all that takes part. Raises RuntimeError for two of them."""
        if name in FREE:
            return self.device(args[0]) if args and isinstance(args[0], Tensor) else CPU
        if name in ("__getitem__", "__setitem__"):
            own = self.device(args[0])
            indices = list(_tensors([args[1]]))
            strangers = [t for t in indices if self.device(t) not in (CPU, own)]
            if indices and name == "__setitem__":
                strangers += [t for t in _tensors(args[2:]) if t.dim() and self.device(t) != own]
            if strangers:
                raise RuntimeError(f"{name}: {self.device(strangers[0])} beside {own}")
            return own
        devices = {self.device(t) for t in _tensors([*args, *kwargs.values()]) if t.dim()}
        if len(devices) > 1:
            raise RuntimeError(f"{name}: tensors on {' and '.join(sorted(map(str, devices)))}")
        single = [self.device(t) for t in _tensors([*args, *kwargs.values()])]
        return devices.pop() if devices else single[0] if single else CPU


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)
        elif isinstance(value, dict):
            yield from _tensors(value.values())
