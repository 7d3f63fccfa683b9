"""DeployGraph -> MindIR in the version that MindSpore writes (3 with MindSpore 2.10)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mindspore as ms
from mindspore import nn
from mindspore.train.mind_ir_pb2 import ModelProto

from synergy.export.graph import example_input
from synergy.runtime.files import TemporaryFolder


def write_mindir(graph: nn.Cell, path: Path, batch: int | None) -> None:
    """Export `graph` with a fixed `batch`, or a dynamic one for None."""
    graph.set_train(False)
    with plain_path(path) as plain:
        ms.export(graph, example_input(batch), file_name=str(plain), file_format="MINDIR")


@contextmanager
def plain_path(path: Path) -> Iterator[Path]:
    """A temporary path for MindSpore, whose file is then moved to `path`: it accepts only ASCII without spaces."""
    with TemporaryFolder() as folder:
        plain = Path(folder) / f"model{path.suffix}"
        yield plain
        plain.chmod(0o644)  # MindSpore writes mode 0400, which copies would inherit
        shutil.move(plain, path)


def mind_ir_version(path: Path) -> int:
    """The version that a MindIR file declares."""
    model = ModelProto()
    model.ParseFromString(path.read_bytes())
    return model.mind_ir_version
