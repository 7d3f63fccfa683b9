"""Golden values as one plain little-endian file, for programs that cannot read `golden.npz`.

Layout, without padding; u is unsigned, f is IEEE float, the number is the count of bits:

| field | type |
|---|---|
| magic `SYNGOLD` and a zero byte | 8 bytes |
| version of this layout, 1 | u32 |
| sha256 of the source checkpoint, as in the manifest | 64 characters |
| number N of crops, side S of a crop, number M of outputs | 3 u32 |
| crops, BGR | N * S * S * 3 u8 |
| M times: name, padded with zero bytes; values per crop K; tolerance; values | 32 bytes, u32, f32, N * K f32 |
| picture: width W and height H; pixels, BGR | 2 u32, H * W * 3 u8 |
| face box x1, y1, x2, y2 in image px | 4 f64 |
| tolerance in image px, landmarks x, y, z per point in image px | f32, 68 * 3 f32 |
"""

from __future__ import annotations

import struct

import numpy as np

from synergy.runtime.bundle import Bundle
from synergy.runtime.crop import roi_from_box
from synergy.runtime.verification.lite_benchmark import ms_artifact, require_golden
from synergy.runtime.verification.reference import PRECISION_FACTORS
from synergy.runtime.verification.replay import picture_tolerance

MAGIC = b"SYNGOLD\0"
VERSION = 1
NAME_BYTES = 32


def encode_golden_file(bundle: Bundle) -> bytes:
    """The content of the file, with the tolerances of the bundle's `.ms` artifact.

    Outputs of which the golden values hold a part only (the vertices of a mesh) are left out. Raises BundleError for a
    bundle without golden values or without a `.ms` file.
    """
    golden, precision = require_golden(bundle), ms_artifact(bundle).precision
    manifest, reference, picture = bundle.manifest, golden.reference, golden.picture
    count = reference.compared(precision)
    names = [tensor.name for tensor in manifest.outputs]
    names = [name for name in names if name in reference.outputs and name not in reference.points]
    size, (height, width) = manifest.preprocessing.size, picture.image_bgr.shape[:2]
    parts = [MAGIC, struct.pack("<I", VERSION), manifest.source.sha256.encode()]
    parts += [struct.pack("<3I", count, size, len(names)), reference.crops[:count].tobytes()]
    for name in names:
        values = reference.outputs[name][:count].reshape(count, -1)
        tolerance = reference.tolerance(name, manifest.arch) * PRECISION_FACTORS[precision]
        parts.append(struct.pack(f"<{NAME_BYTES}sIf", name.encode(), values.shape[1], tolerance))
        parts.append(values.astype("<f4").tobytes())
    roi = roi_from_box(picture.box_xyxy, manifest.crop)
    parts += [struct.pack("<2I", width, height), picture.image_bgr.tobytes()]
    parts.append(picture.box_xyxy.astype("<f8").tobytes())
    parts.append(struct.pack("<f", picture_tolerance(manifest, roi, precision)))
    parts.append(np.ascontiguousarray(picture.landmarks).astype("<f4").tobytes())
    return b"".join(parts)
