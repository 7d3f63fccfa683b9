"""Decode JSON with a schema, and refuse objects that have a key twice: readers differ in which one they take."""

from __future__ import annotations

import json
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


def decode(text: bytes | str, kind: type[T]) -> T:
    """The value of type `kind`. Raises ValueError: not JSON, of another type, too deep, or with a key twice."""
    try:
        value = msgspec.json.decode(text, type=kind)
        json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return value


def _unique(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise ValueError(f"the key {name[:80]!r} occurs twice")
        seen.add(name)
