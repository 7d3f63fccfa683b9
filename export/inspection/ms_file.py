"""Read a MindSpore Lite file (`.ms`) without MindSpore Lite.

It is a FlatBuffer (flatbuffers.dev, "Internals") with the schema mindspore/lite/schema/model.fbs. Field numbers here
follow the order in the schema.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from synergy.runtime.lite.binding import DTYPES

IDENTIFIER = b"MSL2"  # of the schema since MindSpore Lite 1.2
MAX_RANK = 16
MAX_ITEMS = 1 << 16  # of one list: operators, tensors
MAX_NAME = 1 << 10  # bytes
CONSTANT_NODE = 0  # schema: ValueNode, a tensor with data

# union PrimitiveType of mindspore/lite/schema/ops.fbs, as MindSpore Lite 2.0.0 has it; newer ones are appended
OPERATORS = """
Abs Activation ActivationGrad Adam AddFusion AdderFusion AddGrad AddN All ApplyMomentum ArgMaxFusion ArgMinFusion
Assert Assign AssignAdd AudioSpectrogram AvgPoolFusion AvgPoolGrad BatchNorm BatchNormGrad BatchToSpace BatchToSpaceND
BiasAdd BinaryCrossEntropy BinaryCrossEntropyGrad BiasAddGrad BroadcastTo Cast Ceil Clip Concat Attention
Conv2DBackpropFilterFusion Conv2DBackpropInputFusion Conv2DFusion Conv2dTransposeFusion Cos ConstantOfShape Crop
CustomExtractFeatures CustomNormalize CustomPredict DeConv2DGradFilter Depend DepthToSpace DetectionPostProcess
DivFusion DivGrad Dropout DropoutGrad Elu Eltwise Equal EmbeddingLookupFusion ExpFusion ExpandDims
FakeQuantWithMinMaxVars FakeQuantWithMinMaxVarsPerChannel FftReal FftImag Flatten FlattenGrad Floor FloorDiv FloorMod
Fill FullConnection FusedBatchNorm Gather GatherNd Greater GreaterEqual HashtableLookup InstanceNorm LayerNormFusion
LeakyRelu Less LessEqual Log LogGrad LogicalAnd LogicalNot LogicalOr LpNormalization LRN LshProjection LSTM
L2NormalizeFusion MatMulFusion Maximum MaximumGrad MaxPoolFusion MaxPoolGrad SwitchLayer Mfcc Minimum MinimumGrad Mod
MulFusion MulGrad Neg NegGrad NotEqual NonMaxSuppression OneHot OnesLike PadFusion PartialFusion PowerGrad PowFusion
PriorBox PReLUFusion QuantDTypeCast Rank Range Reciprocal RealDiv ReduceFusion Reshape Resize ReverseSequence
ReverseV2 Rfft ROIPooling Round Rsqrt ScaleFusion ScatterNd SGD Shape SigmoidCrossEntropyWithLogits
SigmoidCrossEntropyWithLogitsGrad Sin SkipGram SliceFusion SmoothL1Loss SmoothL1LossGrad Softmax
SoftmaxCrossEntropyWithLogits SpaceToBatch SpaceToBatchND SpaceToDepth SparseSoftmaxCrossEntropyWithLogits
SparseToDense Split Sqrt Squeeze Square SquaredDifference Stack StridedSlice SubFusion SubGrad Switch
TensorListFromTensor TensorListGetItem TensorListReserve TensorListSetItem TensorListStack TileFusion TopKFusion
Transpose Unique UnsortedSegmentSum Unsqueeze Unstack LSTMGrad Where ZerosLike Select ScatterNdUpdate GRU NonZero
InvertPermutation Size RandomStandardNormal CropAndResize Erf StridedSliceGrad IsFinite LinSpace UniformReal AbsGrad
RsqrtGrad SqrtGrad LayerNormGrad ResizeGrad Splice LogSoftmax Call Custom CumSum SplitWithOverlap GenOP RaggedRange
GLU TensorArray TensorArrayRead TensorArrayWrite Affine AllGather ReduceScatter DynamicQuant LSTMGradData
LSTMGradWeight RandomNormal NLLLoss NLLLossGrad FormatTranspose GatherD GroupNormFusion Log1p TensorScatterAdd
SparseFillEmptyRows SparseReshape SparseSegmentSum ScatterElements Triu Tril AdamWeightDecay
""".split()  # noqa: SIM905


class MsFileError(ValueError):
    """The bytes are not a `.ms` file, or are damaged."""


@dataclass(frozen=True)
class MsTensor:
    """One tensor. -1 in `shape` is a dynamic size; `shape` is empty if the file gives none; `data_bytes` is 0 without
    data."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data_bytes: int


@dataclass(frozen=True)
class MsGraph:
    """The main graph. `version` is empty if the converter wrote none, as that of 2.0."""

    version: str
    operators: tuple[str, ...]
    inputs: tuple[MsTensor, ...]
    outputs: tuple[MsTensor, ...]
    weights: tuple[MsTensor, ...]


def read_ms(data: bytes) -> MsGraph:
    """Read a `.ms` file. Raises MsFileError if it is not one, is damaged or truncated."""
    if data[4:8] != IDENTIFIER:
        raise MsFileError("is not a MindSpore Lite file: the identifier MSL2 is missing")
    try:
        return _graph(_Table(data, _unpack("<I", data, 0)))
    except (struct.error, UnicodeDecodeError, IndexError):
        raise MsFileError("is a MindSpore Lite file that is damaged or truncated") from None


def _graph(root: _Table) -> MsGraph:
    tensors = [_tensor(table) for table in root.tables(7)]
    chosen = [[tensors[index] for index in root.numbers(field, "I", MAX_ITEMS)] for field in (3, 4)]
    return MsGraph(
        version=root.text(1),
        operators=tuple(_operator(node) for node in root.tables(6)),
        inputs=tuple(chosen[0]),
        outputs=tuple(chosen[1]),
        weights=tuple(tensor for tensor in tensors if tensor.data_bytes),
    )


def _operator(node: _Table) -> str:
    primitive = node.table(2)
    kind = primitive.number(0, "B") if primitive else 0
    return OPERATORS[kind - 1] if 1 <= kind <= len(OPERATORS) else f"type {kind}"


def _tensor(table: _Table) -> MsTensor:
    shape = tuple(table.numbers(2, "i", MAX_RANK))
    kind = table.number(1, "i")
    return MsTensor(table.text(9), DTYPES.get(kind, f"type {kind}"), shape, table.count(6))


class _Table:
    """A FlatBuffer table: fields by number; absent ones are 0 or empty.

    Raises struct.error beyond the end, and for lists and names that are too long: many offsets may lead to the same
    bytes, so that a small file would need much memory.
    """

    def __init__(self, data: bytes, position: int) -> None:
        self.data, self.position = data, position
        self.vtable = position - _unpack("<i", data, position)
        self.fields = (_unpack("<H", data, self.vtable) - 4) // 2

    def number(self, field: int, kind: str) -> int:
        """A scalar; `kind`: its format character for struct."""
        position = self._field(field)
        return _unpack(f"<{kind}", self.data, position) if position else 0

    def text(self, field: int) -> str:
        start, count = self._vector(field, 1, MAX_NAME)
        return self.data[start : start + count].decode()

    def count(self, field: int) -> int:
        """Length of a vector of bytes."""
        return self._vector(field, 1, len(self.data))[1]

    def numbers(self, field: int, kind: str, limit: int) -> tuple[int, ...]:
        """At most `limit` numbers of 4 bytes; `kind` as in `number`."""
        start, count = self._vector(field, 4, limit)
        return struct.unpack_from(f"<{count}{kind}", self.data, start)

    def table(self, field: int) -> _Table | None:
        position = self._field(field)
        return _Table(self.data, self._target(position)) if position else None

    def tables(self, field: int) -> Iterator[_Table]:
        start, count = self._vector(field, 4, MAX_ITEMS)
        for position in range(start, start + 4 * count, 4):
            yield _Table(self.data, self._target(position))

    def _field(self, field: int) -> int:
        """Position of a field; 0 if it is absent."""
        offset = _unpack("<H", self.data, self.vtable + 4 + 2 * field) if field < self.fields else 0
        return self.position + offset if offset else 0

    def _target(self, position: int) -> int:
        return position + _unpack("<I", self.data, position)

    def _vector(self, field: int, width: int, limit: int) -> tuple[int, int]:
        """Start and length; (0, 0) if it is absent."""
        position = self._field(field)
        if not position:
            return 0, 0
        start = self._target(position)
        count = _unpack("<I", self.data, start)
        if count > limit or start + 4 + count * width > len(self.data):
            raise struct.error(f"{count} items start at byte {start + 4} of {len(self.data)}")
        return start + 4, count


def _unpack(kind: str, data: bytes, position: int) -> int:
    if position < 0:  # struct would count from the end of the data
        raise struct.error(f"an offset leads to byte {position}")
    return struct.unpack_from(kind, data, position)[0]
