"""fp32 ONNX -> int8 ONNX: static quantisation of the backbone, calibrated on crops.

Quantised layers are wrapped in QuantizeLinear and DequantizeLinear, standard operators that onnxruntime and OpenVINO
fuse into integer convolutions.

The last layers and the geometry stay float32: 8 bits are too few for sums over 1280 features and for coordinates.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from onnx import version_converter

from synergy.export.graph import INPUT_NAME
from synergy.runtime.crop import CROP_SIZE
from synergy.runtime.engines.onnx import import_onnxruntime
from synergy.runtime.files import TemporaryFolder, whole_file
from synergy.synergy_model.synthetic.faces import SyntheticFaces

CALIBRATION_SEED = 1_000_000_009  # differs from the seeds of training (small numbers) and of accuracy measurements
CALIBRATION_FACES = 256
CALIBRATION_BATCH = 16
PER_CHANNEL_OPSET = 13  # the first opset with a scale per output channel
QUANTISED = ("Conv", "Clip", "Relu", "Add")


class QuantizationError(ValueError):
    """The model cannot be quantised; the message gives the cause and the fix."""


def calibration_crops() -> np.ndarray:
    """Synthetic faces (256,120,120,3) uint8 BGR, the default calibration set."""
    return SyntheticFaces(CALIBRATION_SEED).batch(range(CALIBRATION_FACES)).images


def quantize_onnx(path: Path, crops_bgr_u8: np.ndarray) -> None:
    """Replace the fp32 file `path` by an int8 model; on an error it stays as it was.

    crops_bgr_u8 (N,120,120,3): calibration crops, which set the activation ranges. Raises QuantizationError without
    onnxruntime, or for crops of another shape.
    """
    try:
        import_onnxruntime()
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    except ImportError:
        raise QuantizationError("int8 needs onnxruntime: pip install 'synergy-mindir[onnx]'") from None
    _check(crops_bgr_u8)
    with whole_file(path) as made, TemporaryFolder() as folder:
        folded = Path(folder) / "folded.onnx"
        _fold(path, folded)
        with _quiet():
            quantize_static(
                str(folded),
                str(made),
                _Crops(crops_bgr_u8),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
                reduce_range=True,  # 7-bit weights: without VNNI, a sum of two products could overflow 16 bits silently
                op_types_to_quantize=list(QUANTISED),
                nodes_to_quantize=_backbone(onnx.load(str(folded)).graph),
            )
        _share_equal(made)
        onnx.checker.check_model(str(made))
        made.chmod(path.stat().st_mode & 0o777)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress onnxruntime's advice, on the root logger, to do the folding that `_fold` has done."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _check(crops: np.ndarray) -> None:
    if crops.ndim != 4 or crops.dtype != np.uint8 or crops.shape[1:] != (CROP_SIZE, CROP_SIZE, 3) or not len(crops):
        raise QuantizationError(f"calibration crops are {crops.dtype} {crops.shape}: give uint8 (N, 120, 120, 3) BGR")


def _fold(source: Path, target: Path) -> None:
    """Fold batch normalisation into the convolutions before their weights are quantised, and name all nodes."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    model = version_converter.convert_version(onnx.load(str(target)), PER_CHANNEL_OPSET)
    del model.opset_import[:]  # onnxruntime lists every domain it supports; other readers may reject unknown ones
    model.opset_import.append(onnx.helper.make_opsetid("", PER_CHANNEL_OPSET))
    for number, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{number}"
    onnx.save(model, str(target))


def _share_equal(path: Path) -> None:
    """Merge equal constants: every channel of every layer has its own zero point, and nearly all of them are 0."""
    model = onnx.load(str(path))
    names: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    kept = {weight.name: names.setdefault(_content(weight), weight.name) for weight in model.graph.initializer}
    weights = [weight for weight in model.graph.initializer if kept[weight.name] == weight.name]
    del model.graph.initializer[:]
    model.graph.initializer.extend(weights)
    for node in model.graph.node:
        node.input[:] = [kept.get(name, name) for name in node.input]
    onnx.save(model, str(path))


def _content(weight: onnx.TensorProto) -> tuple[int, tuple[int, ...], bytes]:
    return weight.data_type, tuple(weight.dims), onnx.numpy_helper.to_array(weight).tobytes()


def _backbone(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes to quantise: those before the global average pooling."""
    pooling = next((node for node in _upstream(graph, "params") if node.op_type == "ReduceMean"), None)
    if pooling is None:
        raise QuantizationError("the graph has no pooled features before its parameters: it cannot be quantised")
    return [node.name for node in _upstream(graph, pooling.input[0]) if node.op_type in QUANTISED]


def _upstream(graph: onnx.GraphProto, output: str) -> Iterator[onnx.NodeProto]:
    """All nodes that a value depends on, nearest first."""
    makers = {name: node for node in graph.node for name in node.output}
    waiting, seen = deque([output]), set()
    while waiting:
        node = makers.get(waiting.popleft())
        if node is not None and node.name not in seen:
            seen.add(node.name)
            yield node
            waiting.extend(node.input)


class _Crops:
    """onnxruntime's calibration reader: batches by input name, then None."""

    def __init__(self, crops: np.ndarray) -> None:
        self._batches: Iterator[np.ndarray] = iter(
            crops[start : start + CALIBRATION_BATCH] for start in range(0, len(crops), CALIBRATION_BATCH)
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT_NAME: batch}
