"""Read, decode and write one image file."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from synergy.runtime.errors import MediaError
from synergy.runtime.files import write_file
from synergy.runtime.formats.file_kinds import HEAD_BYTES, file_kind, mismatch
from synergy.runtime.media.inputs import read_bytes
from synergy.runtime.opencv import cv2
from synergy.runtime.processes.stderr import exclusive_stderr, shared_capture

MAX_PIXELS = 1 << 28  # 805 MB decoded; the largest phone cameras have 2e8 pixels
DAMAGE_CURE = "copy it again, or use --allow-damaged (in Python allow_damaged=True)"
UNREADABLE = {b"ftyphei": "HEIC", b"ftyphev": "HEIC", b"ftypmif1": "HEIF", b"ftypmsf1": "HEIF", b"ftypcrx": "CR3"}
BACKGROUND = 255  # white, as viewers show transparent images


def read_image(path: str | Path, allow_damaged: bool = False) -> np.ndarray:
    """Read an image file as (H,W,3) uint8 BGR, converted as `decode_image` says.

    Raises MediaError if the file is missing, is not an image, is damaged or is too large.
    """
    return decode_image(read_bytes(Path(path)), path, allow_damaged)


def decode_image(data: bytes, name: str | Path = "the image", allow_damaged: bool = False) -> np.ndarray:
    """Decode the bytes of an image file to (H,W,3) uint8 BGR, upright as its EXIF tag says.

    Grey is repeated in three channels, 16 bits are reduced to 8, transparent pixels are blended with white, and of an
    animation the first frame is taken. `name` stands in error messages. allow_damaged: take the pixels of a damaged
    JPEG as far as they could be decoded.
    Raises MediaError if the bytes are not an image, are damaged, or hold too many pixels.
    """
    image, damage = decode_with_damage(data, name)
    if damage and not allow_damaged:
        raise MediaError(f"{name} {damage}: {DAMAGE_CURE}")
    return image


def decode_with_damage(data: bytes, name: str | Path) -> tuple[np.ndarray, str]:
    """The image as of `decode_image`, and how a JPEG is damaged ("" if it is not): a text that continues its name.

    Raises MediaError if the bytes give no image, or one with too many pixels.
    """
    try:
        return _decode_upright(data)
    except ValueError as error:
        raise MediaError(f"{name} {error}") from None


def write_image(path: str | Path, image_bgr: np.ndarray) -> None:
    """Write an image (H,W,3) uint8 BGR in the format of the path's suffix, whole or not at all; makes the folder.

    Raises MediaError if the suffix is unknown or the file cannot be written.
    """
    path = Path(path)
    try:
        ok, data = cv2.imencode(path.suffix, image_bgr)
    except cv2.error:
        ok = False
    if not ok:
        raise MediaError(
            f"cannot write {path}: unknown image format, or image too large for it; use a name ending in .png"
        )
    write_file(path, data.tobytes(), durable=False)  # it can be made again


def _decode_upright(data: bytes) -> tuple[np.ndarray, str]:
    """As `decode_with_damage`. Raises ValueError with a text that continues after the file's name."""
    _check_size(data)
    is_jpeg, damage = data.startswith(JPEG), ""
    if is_jpeg:
        image, damage = _decode_jpeg(data)
    else:
        image = _decode(data, cv2.IMREAD_COLOR)
    if image is None:
        kind = next((kind for brand, kind in UNREADABLE.items() if brand in data[:16]), "")
        if kind:
            raise ValueError(f"is a {kind} file, which OpenCV cannot read: convert it to JPEG or PNG")
        if not data.startswith(tuple(_SIZE_READERS)) and file_kind(data[:HEAD_BYTES]):
            raise ValueError(mismatch(data[:HEAD_BYTES], "an image"))
        raise ValueError("is not an image that OpenCV can read, or is damaged: save it again as JPEG or PNG")
    if is_jpeg:
        return image, damage  # has no transparency
    return _blend_with_white(image, _decode(data, cv2.IMREAD_UNCHANGED)), ""


def _decode_jpeg(data: bytes) -> tuple[np.ndarray | None, str]:
    """The image and its damage. libjpeg reports damage only on stderr."""
    is_whole = data.rfind(END_OF_JPEG, _jpeg_header(data)[1]) >= 0
    if not is_whole:
        data += END_OF_JPEG  # decoders fill the missing part with grey
    with shared_capture(_is_jpeg_damage) as reports:
        image = _decode(data, cv2.IMREAD_COLOR)
    if reports:  # maybe of another thread: decode again alone
        with exclusive_stderr(), shared_capture(_is_jpeg_damage) as reports:
            image = _decode(data, cv2.IMREAD_COLOR)
    if not is_whole:
        return image, "is incomplete"
    return image, f"is damaged ({reports[0]})" if reports else ""


def _is_jpeg_damage(line: str) -> bool:
    return line.startswith(("Corrupt JPEG data", "Premature end of JPEG", "Inconsistent progression", "Invalid SOS"))


def _check_size(data: bytes) -> None:
    """Refuse an image that is too large before it is decoded: a PNG file of 5 MB can hold 10 GB."""
    reader = next((reader for magic, reader in _SIZE_READERS.items() if data.startswith(magic)), None)
    if reader is None:
        return
    try:
        width, height = reader(data)
    except (EOFError, IndexError, ValueError, struct.error):
        raise ValueError("is incomplete: copy it again") from None
    if width * height > MAX_PIXELS:
        raise ValueError(f"has {width}x{height} pixels, over {MAX_PIXELS >> 20} million: make it smaller")


def _decode(data: bytes, flags: int) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None


def _blend_with_white(image_bgr: np.ndarray, raw: np.ndarray | None) -> np.ndarray:
    """Blend the image with white where `raw`, the same file decoded with its alpha channel, is transparent."""
    if raw is None or raw.ndim != 3 or raw.shape[2] != 4:
        return image_bgr
    if raw.dtype == np.uint16:
        raw = (raw >> 8).astype(np.uint8)
    upright = next((turned for turned in _orientations(raw) if _same_image(turned, image_bgr)), None)
    if upright is None or (upright[:, :, 3] == 255).all():
        return image_bgr
    alpha = upright[:, :, 3:].astype(np.uint16)
    return ((image_bgr * alpha + BACKGROUND * (255 - alpha) + 127) // 255).astype(np.uint8)


def _orientations(image: np.ndarray) -> Iterable[np.ndarray]:
    """The image in the eight EXIF orientations. OpenCV either applies the orientation or keeps the alpha channel, and
    does not report which orientation it applied."""
    for mirrored in (image, image[:, ::-1]):
        for quarter_turns in range(4):
            yield np.rot90(mirrored, quarter_turns)


def _same_image(turned: np.ndarray, image_bgr: np.ndarray) -> bool:
    if turned.shape[:2] != image_bgr.shape[:2]:
        return False
    colours = np.ascontiguousarray(turned[:, :, :3])
    return cv2.norm(colours, image_bgr, cv2.NORM_INF) <= 1  # OpenCV truncates 16 bits to 8, but rounds for TIFF


def _jpeg_size(data: bytes) -> tuple[int, int]:
    return _jpeg_header(data)[0]


def _jpeg_header(data: bytes) -> tuple[tuple[int, int], int]:
    """The size in the frame header, and where the first scan, the pixels, begins."""
    size = (0, 0)
    at = 2
    while data[at := data.index(b"\xff", at) + 1] != 0xDA:  # until the start of the scan: the pixels
        marker = data[at]
        if marker in (0x00, 0xFF):  # not a marker; decoders skip such bytes too
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 4)
            size = width, height
        at += 1 + struct.unpack_from(">H", data, at + 1)[0]
    return size, at


def _tiff_size(data: bytes) -> tuple[int, int]:
    """Width and height: tags 256 and 257 of the first directory."""
    order = "<" if data[0] == ord("I") else ">"
    (start,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, start)
    size = {256: 0, 257: 0}
    for at in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from(order + "HH", data, at)
        if tag in size:
            (size[tag],) = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, at + 8)
    return size[256], size[257]


def _bmp_size(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<ii", data, 18)
    return abs(width), abs(height)


def _png_size(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _gif_size(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", data, 6)
    return width, height


JPEG, END_OF_JPEG = b"\xff\xd8", b"\xff\xd9"
# Formats whose compression ratio has no limit; for the others OpenCV's own limit of 2^30 pixels applies.
_SIZE_READERS: dict[bytes, Callable[[bytes], tuple[int, int]]] = {
    b"\x89PNG": _png_size,
    b"GIF8": _gif_size,
    b"BM": _bmp_size,
    b"II*\0": _tiff_size,
    b"MM\0*": _tiff_size,
    JPEG: _jpeg_size,
}
