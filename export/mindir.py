"""DeployGraph -> MindIR, as MindSpore writes it (version 3 with MindSpore 2.10)."""

from __future__ import annotations

from pathlib import Path

import mindspore as ms
from mindspore import nn
from mindspore.train.mind_ir_pb2 import ModelProto

from export.graph import example_input


def write_mindir(graph: nn.Cell, path: Path, batch: int | None) -> None:
    """Freeze `graph` with a fixed `batch`, or a dynamic one for None."""
    graph.set_train(False)
    ms.export(graph, example_input(batch), file_name=str(path), file_format="MINDIR")
    path.chmod(0o644)  # MindSpore leaves 0400, which a copy to a device would inherit


def mind_ir_version(path: Path) -> int:
    """The version a MindIR file states."""
    model = ModelProto()
    model.ParseFromString(path.read_bytes())
    return model.mind_ir_version
