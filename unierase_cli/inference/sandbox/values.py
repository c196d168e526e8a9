"""Messages between the code's process and the tests': plain values as JSON over a pipe; standard library only.

Values are restored as exact built-in types, so an answer cannot pretend to equal everything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

# References kept here, since ``os`` is stripped before generated code runs.
from os import read, write
from typing import Any

MOST_BYTES = 4 << 20


def pack(value: Any) -> list:
    """A plain value as JSON-able data with its type; subclasses become their built-in base. Raises TypeError for
    anything else.
    """
    if value is None or isinstance(value, bool | str):
        return ["v", value]
    if isinstance(value, int):
        return ["i", hex(value)]
    if isinstance(value, float):
        return ["f", float.hex(value)]
    if isinstance(value, complex):
        return ["c", float.hex(value.real), float.hex(value.imag)]
    if isinstance(value, bytes | bytearray):
        return ["b", value.hex()]
    if isinstance(value, dict):
        return ["d", [[pack(key), pack(item)] for key, item in value.items()]]
    for name, form in COLLECTIONS.items():
        if isinstance(value, form):
            return [name, [pack(item) for item in value]]
    raise TypeError(f"a {type(value).__name__} cannot be passed between the tests and the code")


def unpack(data: list) -> Any:
    """Restore the value, in exact built-in types."""
    kind, content = data[0], data[1]
    if kind == "i":
        return int(content, 16)
    if kind == "f":
        return float.fromhex(content)
    if kind == "c":
        return complex(float.fromhex(content), float.fromhex(data[2]))
    if kind == "b":
        return bytes.fromhex(content)
    if kind == "d":
        return {unpack(key): unpack(item) for key, item in content}
    return content if kind == "v" else COLLECTIONS[kind](unpack(item) for item in content)


COLLECTIONS: dict[str, Any] = {"l": list, "t": tuple, "s": set, "z": frozenset}


def send(channel: int, message: Mapping[str, Any]) -> None:
    """Send one message: its length in four bytes, then JSON."""
    body = json.dumps(message).encode("ascii")
    if len(body) > MOST_BYTES:
        raise ValueError("the answer is too large")
    left = len(body).to_bytes(4, "big") + body
    while left:
        left = left[write(channel, left) :]


def receive(channel: int) -> Any:
    """The next message, or None if the other side has closed."""
    head = _exactly(channel, 4)
    size = int.from_bytes(head, "big") if head else 0
    if size > MOST_BYTES:
        raise ValueError("the answer is too large")
    body = _exactly(channel, size) if size else None
    return None if body is None else json.loads(body)


def say(channel: int, message: Mapping[str, Any]) -> None:
    """Write one line of JSON."""
    write(channel, (json.dumps(message) + "\n").encode("ascii"))


def _exactly(channel: int, size: int) -> bytes | None:
    parts = b""
    while len(parts) < size:
        part = read(channel, min(size - len(parts), 1 << 16))
        if not part:
            return None
        parts += part
    return parts
