"""Find tensors of an ONNX or MindIR model that lie in other files, without further packages or reading the values.

Engines open such files relative to the current folder, or at any absolute path: they are no part of what was verified.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from synergy.runtime.formats.protobuf import BYTES, fields

MAX_FIELDS = 4_000_000  # that a scan looks at; a large network has about 100,000
TENSOR = "TensorProto"


@dataclass(frozen=True)
class Schema:
    """Where a protobuf model has tensors.

    damage: the error of other bytes, as it continues after the file's name. fields: message: field: message of its
    content; other fields are skipped. external: fields of a tensor that say, unless they are 0, that its values are in
    another file. cure: how to save it in one file.
    """

    damage: str
    fields: Mapping[str, Mapping[int, str]]
    external: tuple[int, ...]
    cure: str


ONNX = Schema(
    "is not an ONNX model, or is damaged or truncated",
    {  # from onnx.proto3
        "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
        "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
        "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
        "GraphProto": {1: "NodeProto", 5: TENSOR, 15: "SparseTensorProto"},
        "SparseTensorProto": {1: TENSOR, 2: TENSOR},
        "NodeProto": {5: "AttributeProto"},
        "AttributeProto": {
            5: TENSOR, 6: "GraphProto", 10: TENSOR, 11: "GraphProto", 22: "SparseTensorProto", 23: "SparseTensorProto",
        },
    },
    external=(13, 14),  # external_data, data_location
    cure="save it with save_as_external_data=False",
)  # fmt: skip
MINDIR = Schema(
    "is not a MindIR model, or is damaged, truncated or encrypted",
    {  # from mind_ir.proto of MindSpore 2.10
        "ModelProto": {7: "GraphProto", 8: "GraphProto", 12: "PrimitiveProto"},
        "GraphProto": {
            1: "NodeProto", 3: TENSOR, 5: "ValueInfoProto", 6: "ValueInfoProto", 8: "AttributeProto",
            10: "MapTensorProto",
        },
        "ValueInfoProto": {2: TENSOR, 5: "AttributeProto"},
        "MapTensorProto": {2: "AttributeProto", 3: TENSOR, 4: TENSOR, 5: TENSOR},
        "PrimitiveProto": {3: "AttributeProto"},
        "NodeProto": {5: "AttributeProto", 8: "AttributeProto", 9: "AttributeProto"},
        "AttributeProto": {
            6: TENSOR, 7: "GraphProto", 12: TENSOR, 13: "GraphProto", 17: "AttributeProto", 18: "SeqInfoProto",
            19: "FunctorProto",
        },
        "SeqInfoProto": {2: "AttributeProto"},
        "FunctorProto": {3: "AttributeProto"},
        TENSOR: {17: "QuantParamProto"},
        "QuantParamProto": {2: "AttributeProto"},
    },
    external=(12,),  # external_data
    cure="MindSpore writes models from 1 GB on so, and only single files can be used",
)  # fmt: skip
BY_FORMAT = {"onnx": ONNX, "mindir": MINDIR, "mindir_v1": MINDIR}


class ModelScanError(ValueError):
    """The model is damaged, too large, or is not a single file."""


class ModelDamageError(ModelScanError):
    """The bytes are not a model of this format, or not all of it: engines cannot read it either."""


def check_self_contained(data: bytes, schema: Schema) -> None:
    """Raise ModelScanError, with a text that continues after the file's name, if weights lie in other files.

    Raises ModelDamageError for other bytes. A few milliseconds for a model of 100 MB.
    """
    left = MAX_FIELDS
    pending = [("ModelProto", 0, len(data))]
    try:
        while pending:
            message, start, end = pending.pop()
            contents = schema.fields.get(message, {})
            for field, wire, first, last in fields(data, start, end):
                left -= 1
                if left < 0:
                    raise ModelScanError(f"has more than {MAX_FIELDS:,} parts: it is not a model of this kind")
                if message == TENSOR and field in schema.external and (wire == BYTES or first):
                    raise ModelScanError(f"has its weights in other files: {schema.cure}")
                if wire == BYTES and field in contents:
                    pending.append((contents[field], first, last))
    except EOFError:
        raise ModelDamageError(schema.damage) from None
