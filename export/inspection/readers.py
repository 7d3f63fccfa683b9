"""Readers of model files, one per format. Each imports its own package only when called."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synergy.export.inspection.ms_file import IDENTIFIER, MsFileError, MsTensor, read_ms
from synergy.export.protobuf import dtype_name, parse
from synergy.runtime.formats.external_data import MINDIR, ONNX, ModelScanError, Schema, check_self_contained

if TYPE_CHECKING:
    import onnx
    from mindspore.train.mind_ir_pb2 import ModelProto, ValueInfoProto

DYNAMIC_SIZE = -1  # a size that is known only at run time


class ModelFileError(ValueError):
    """The bytes are not a model of that format, or are incomplete."""


@dataclass(frozen=True)
class Tensor:
    """An input, output or weight. -1 in `shape` is a dynamic size; None: the file gives no shape."""

    name: str
    dtype: str
    shape: tuple[int, ...] | None


@dataclass(frozen=True)
class Content:
    """Content of a model file. format: as in a manifest. lowering: why a MindIR 3 cannot be lowered, "" if it can."""

    format: str
    versions: dict[str, str]
    operators: tuple[str, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    weights: tuple[Tensor, ...]
    lowering: str | None = None


def read_mindir(data: bytes) -> Content:
    """A MindIR of any version. Raises ModelFileError, ModuleNotFoundError without MindSpore."""
    from mindspore.train.mind_ir_pb2 import ModelProto

    from synergy.export.lowering.lower import MIND_IR_VERSION, operator_names

    model = ModelProto()
    _parse(model, data, MINDIR)
    kind = "mindir_v1" if model.mind_ir_version <= MIND_IR_VERSION else "mindir"
    return Content(
        format=kind,
        versions=_without_empty({"MindIR": str(model.mind_ir_version), "MindSpore": model.model_version}),
        operators=tuple(operator_names(model)),
        inputs=tuple(_mindir_tensors(model.graph.input, named=True)),
        outputs=tuple(_mindir_tensors(model.graph.output, named=False)),
        weights=tuple(Tensor(_last(p.name), dtype_name(p, p.data_type), tuple(p.dims)) for p in model.graph.parameter),
        lowering=_lowering_problem(model) if kind == "mindir" else None,
    )


def read_onnx(data: bytes) -> Content:
    """An ONNX model. Raises ModelFileError, ModuleNotFoundError without onnx."""
    import onnx

    model = onnx.ModelProto()
    _parse(model, data, ONNX)
    weights = {initializer.name: initializer for initializer in model.graph.initializer}
    opsets = {f"opset {opset.domain}".strip(): str(opset.version) for opset in model.opset_import}
    producer = f"{model.producer_name} {model.producer_version}".strip()
    return Content(
        format="onnx",
        versions=_without_empty({**opsets, "IR": str(model.ir_version), "producer": producer}),
        operators=tuple(_onnx_operators(model.graph)),
        inputs=tuple(_onnx_tensor(entry) for entry in model.graph.input if entry.name not in weights),
        outputs=tuple(_onnx_tensor(entry) for entry in model.graph.output),
        weights=tuple(Tensor(name, dtype_name(w, w.data_type), tuple(w.dims)) for name, w in weights.items()),
    )


def read_lite(data: bytes) -> Content:
    """A `.ms` file; needs no package. Raises ModelFileError."""
    try:
        graph = read_ms(data)
    except MsFileError as error:
        raise ModelFileError(str(error)) from None
    return Content(
        format="ms",
        versions=_without_empty({"schema": IDENTIFIER.decode(), "MindSpore Lite": graph.version}),
        operators=graph.operators,
        inputs=tuple(_lite_tensor(tensor) for tensor in graph.inputs),
        outputs=tuple(_lite_tensor(tensor) for tensor in graph.outputs),
        weights=tuple(_lite_tensor(tensor) for tensor in graph.weights),
    )


# by file name suffix
READERS: dict[str, Callable[[bytes], Content]] = {".mindir": read_mindir, ".onnx": read_onnx, ".ms": read_lite}


def _parse(model: Any, data: bytes, schema: Schema) -> None:
    """Fill the protobuf message `model`. Raises ModelFileError."""
    try:
        check_self_contained(data, schema)  # also bounds the number of objects that protobuf makes
    except ModelScanError as error:
        raise ModelFileError(str(error)) from None
    if not parse(model, data) or not model.ir_version or not model.graph.node:
        raise ModelFileError(schema.damage)


def _without_empty(versions: dict[str, str]) -> dict[str, str]:
    return {name: version for name, version in versions.items() if version}


def _lowering_problem(model: ModelProto) -> str:
    from synergy.export.lowering.lower import LoweringError, lower_model

    try:
        lower_model(model)
    except LoweringError as error:
        return str(error)
    return ""


def _mindir_tensors(entries: Any, named: bool) -> Iterator[Tensor]:
    """Tensors of inputs or outputs. Outputs have no names in a MindIR, and one entry may hold several."""
    found = [(_last(entry.name), tensor) for entry in entries for tensor in _members(entry)]
    for number, (name, tensor) in enumerate(found):
        yield Tensor(name if named else str(number), dtype_name(tensor, tensor.data_type), tuple(tensor.dims))


def _members(entry: ValueInfoProto) -> list[Any]:
    inside = [tensor for value in entry.attr_info.values for tensor in value.tensors]
    return [*entry.tensor, *entry.attr_info.tensors, *inside]


def _last(name: str) -> str:
    """ "12_construct:backbone.weight" -> "backbone.weight"."""
    return name.rpartition(":")[2]


def _onnx_operators(graph: onnx.GraphProto) -> Iterator[str]:
    """Operators of the graph and its sub-graphs."""
    for node in graph.node:
        yield f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else ())):
                yield from _onnx_operators(inner)


def _onnx_tensor(entry: onnx.ValueInfoProto) -> Tensor:
    import onnx

    kind = entry.type.tensor_type
    dims = tuple(dim.dim_value if dim.HasField("dim_value") else DYNAMIC_SIZE for dim in kind.shape.dim)
    return Tensor(entry.name, dtype_name(onnx.TensorProto, kind.elem_type), dims if kind.HasField("shape") else None)


def _lite_tensor(tensor: MsTensor) -> Tensor:
    return Tensor(tensor.name, tensor.dtype, tensor.shape or None)
