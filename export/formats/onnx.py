"""DeployGraph -> ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import mindspore.onnx
import onnx
from mindspore import nn

from synergy.export.formats.mindir import plain_path
from synergy.export.graph import INPUT_NAME, example_input

BATCH_AXIS = "N"


def write_onnx(graph: nn.Cell, path: Path, batch: int | None, outputs: Sequence[str]) -> None:
    """Export `graph` with a fixed `batch`, or a dynamic one for None, name its outputs, and check the file.

    `graph` must be fresh: MindSpore 2.10 fails on the second ONNX export of the same Cell.
    """
    graph.set_train(False)
    with plain_path(path) as plain:
        mindspore.onnx.export(
            graph,
            example_input(batch),
            file_name=str(plain),
            input_names=[INPUT_NAME],
            dynamic_axes={INPUT_NAME: {0: BATCH_AXIS}} if batch is None else None,
        )
    model = onnx.load(str(path))
    _name_outputs(model.graph, outputs)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def _name_outputs(graph: onnx.GraphProto, wanted: Sequence[str]) -> None:
    """Rename the outputs and all their uses; the exporter's own option does not rename uses."""
    names = {output.name: name for output, name in zip(graph.output, wanted, strict=True)}
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for output in graph.output:
        output.name = names[output.name]
        batch = output.type.tensor_type.shape.dim[0]
        if batch.dim_value == -1:
            batch.dim_param = BATCH_AXIS
