"""Read `.npy` and `.npz` bytes: sizes are checked before memory is allocated, and no pickle in them is opened."""

from __future__ import annotations

import io
import math
import tokenize
import zipfile
import zlib

import numpy as np

from synergy.runtime.formats.file_kinds import mismatch

CONTENT_LIMIT = 1 << 29  # bytes of all arrays of a file; the largest official basis in float64 has 291 MB
MAX_MEMBERS = 4096
MEMBER_RECORD = b"PK\x01\x02"  # of a zip archive's directory, one per member
NPY_MAGIC = b"\x93NUMPY"
ZIP_MAGIC = b"PK\x03\x04"
# errors of zipfile, zlib and NumPy for damaged bytes, besides ValueError
DAMAGE = (
    OSError,
    EOFError,
    RuntimeError,
    KeyError,
    TypeError,
    IndexError,
    OverflowError,
    SyntaxError,
    tokenize.TokenError,  # of a header with unbalanced brackets
    zipfile.BadZipFile,
    zlib.error,
)


def read_npz(data: bytes, limit: int = CONTENT_LIMIT) -> dict[str, np.ndarray]:
    """The arrays of a `.npz` file by name.

    Raises ValueError, with a text that continues after the file's name, for another kind of file, a damaged one, one
    with two members of the same name, one that unpacks to more than `limit` bytes, and for arrays of objects.
    """
    if not data.startswith((ZIP_MAGIC, b"PK\x05\x06")):
        raise ValueError(mismatch(data, "a .npz file"))
    try:
        with open_zip(data) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > limit:
                raise ValueError(f"it unpacks to more than {limit >> 20} MB")
            arrays = {}
            for member in members:
                name = member.filename.removesuffix(".npy")
                if name in arrays:
                    raise ValueError(f"it has two members {name[:80]!r}")
                arrays[name] = _array(archive.read(member))
            return arrays
    except (ValueError, *DAMAGE) as error:
        raise ValueError(f"is not a .npz file of plain arrays, or is damaged ({_reason(error)})") from None


def read_npy(data: bytes) -> np.ndarray:
    """The array of an `.npy` file. Raises ValueError as `read_npz`."""
    if not data.startswith(NPY_MAGIC):
        raise ValueError(mismatch(data, "an .npy file"))
    try:
        return _array(data)
    except (ValueError, *DAMAGE) as error:
        raise ValueError(f"is not an .npy file of numbers, or is damaged ({_reason(error)})") from None


def open_zip(data: bytes, max_members: int = MAX_MEMBERS) -> zipfile.ZipFile:
    """Open a zip archive in memory. Raises ValueError if it has more members, or two of the same name."""
    if data.count(MEMBER_RECORD) > max_members:  # before zipfile makes an object of each
        raise ValueError(f"it has more than {max_members} members")
    archive = zipfile.ZipFile(io.BytesIO(data))
    names = archive.namelist()
    if len(set(names)) < len(names):
        raise ValueError("it has two members of the same name")
    return archive


def _array(data: bytes) -> np.ndarray:
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(stream)
    if dtype.hasobject:
        raise ValueError("it holds objects instead of numbers")
    if math.prod(shape) * dtype.itemsize != len(data) - stream.tell():
        raise ValueError(f"an array of shape {str(shape)[:80]} does not fit its {len(data)} bytes")
    stream.seek(0)
    return np.lib.format.read_array(stream, allow_pickle=False)


def _reason(error: Exception) -> str:
    text = str(error).splitlines()
    return text[0][:200] if text else type(error).__name__
