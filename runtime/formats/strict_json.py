"""Decode JSON with a schema, and refuse objects that have a key twice: readers differ in which one they take."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

T = TypeVar("T")

# a string, with the colon that makes it a key, or the begin or end of an object
TOKEN = re.compile(rb'("[^"\\]*(?:\\.[^"\\]*)*")\s*(:?)|[{}]', re.DOTALL)


def decode(text: bytes | str, kind: type[T]) -> T:
    """The value of type `kind`. Raises ValueError: not JSON, of another type, too deep, or with a key twice."""
    data = text.encode() if isinstance(text, str) else text
    try:
        value = msgspec.json.decode(data, type=kind)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    _refuse_repeated_keys(data)
    return value


def _refuse_repeated_keys(data: bytes) -> None:
    """`data`: valid JSON. The module json, which has a hook for this, would slow the first face down."""
    objects: list[set[bytes]] = []
    for token in TOKEN.finditer(data):
        if token[0] == b"{":
            objects.append(set())
        elif token[0] == b"}":
            objects.pop()
        elif token[2]:
            name = token[1]
            if b"\\" in name:  # one key can be written in several ways
                name = msgspec.json.encode(msgspec.json.decode(name, type=str))
            if name in objects[-1]:
                raise ValueError(f"the key {name[1:-1][:80].decode(errors='replace')!r} occurs twice")
            objects[-1].add(name)
