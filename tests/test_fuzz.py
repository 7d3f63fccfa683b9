"""Damaged files of every kind: each reader returns, or raises its own error of one line, in bounded time and memory.

SYNERGY_FUZZ_SECONDS: how long all readers together are tested (default 6).
"""

from __future__ import annotations

import os
import random
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile_files import Reader, readers

SEED = int(os.environ.get("SYNERGY_FUZZ_SEED", "20211201"))
SECONDS = float(os.environ.get("SYNERGY_FUZZ_SECONDS", "6"))
ROOM = 3 << 29  # bytes of address space beyond what the tests already use
SLOWEST_S = 10.0  # of one file, on a busy machine
LONGEST = 4000  # characters of a message
NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, (1 << 64) - 1]
NAMES = [
    "a.pth", "inner.pth", "a.pkl", "a.npz", "a.npy", "a.mat", "manifest.json", "boxes.json", "report.json.partial",
    "b.tuning.json", "a.onnx", "a.mindir", "a.ms", "a.ckpt", "a.img",
]  # fmt: skip


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reader]:
    """The readers by name. What they import is imported before the memory is limited."""
    folder = tmp_path_factory.mktemp("seeds")
    found = {reader.name: reader for reader in readers(folder)}
    for reader in found.values():
        for seed in reader.seeds:
            (folder / reader.name).write_bytes(seed)
            reader.read(folder / reader.name)  # valid files are read
    return found


@pytest.fixture
def _bounded_memory(known: dict[str, Reader]) -> Iterator[None]:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.mark.usefixtures("_bounded_memory")
@pytest.mark.timeout(max(600, 2 * SECONDS))
@pytest.mark.parametrize("name", NAMES)
def test_damaged_files(known: dict[str, Reader], tmp_path: Path, name: str) -> None:
    reader, chosen, end = known[name], random.Random(f"{SEED} {name}"), time.monotonic() + SECONDS / len(NAMES)
    path = tmp_path / name
    while time.monotonic() < end:
        path.write_bytes(damaged(chosen.choice(reader.seeds), chosen))
        start = time.monotonic()
        try:
            reader.read(path)
        except reader.errors as error:
            text = str(error)
            assert "\n" not in text and len(text) < LONGEST, text[:LONGEST]
        assert time.monotonic() - start < SLOWEST_S


def test_every_reader_is_tested(known: dict[str, Reader]) -> None:
    assert list(known) == NAMES


def damaged(data: bytes, chosen: random.Random) -> bytes:
    """`data` with one to eight changes: other bits, bytes and numbers, parts removed, repeated or moved."""
    content = bytearray(data)
    for _ in range(chosen.choice((1, 1, 2, 4, 8))):
        place, kind = chosen.randrange(len(content) + 1), chosen.randrange(7)
        size = chosen.choice((1, 2, 4, 8))
        if kind == 0 and place < len(content):
            content[place] ^= 1 << chosen.randrange(8)
        elif kind == 1:
            content[place : place + 1] = bytes([chosen.randrange(256)])
        elif kind == 2:
            number = chosen.choice(NUMBERS) & ((1 << 8 * size) - 1)
            content[place : place + size] = number.to_bytes(size, chosen.choice(("little", "big")))
        elif kind == 3:
            del content[place : place + chosen.randrange(1, 40)]
        elif kind == 4:
            part = content[place : place + chosen.randrange(1, 60)]
            content[place:place] = part * chosen.choice((1, 2, 50))
        elif kind == 5:
            content[place:] = b""
        else:
            other = chosen.randrange(len(content) + 1)
            content[place:place] = content[other : other + chosen.randrange(1, 40)]
        content = content or bytearray(b"\0")
    return bytes(content)
