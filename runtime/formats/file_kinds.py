"""Name the kind of a file by its first bytes, for messages about files that are not what they should be."""

from __future__ import annotations

import re
from dataclasses import dataclass

HEAD_BYTES = 1024  # that `file_kind` needs


@dataclass(frozen=True)
class FileKind:
    """name: with its article, as it stands in a message. cure: what to do with such a file."""

    name: str
    cure: str


EMPTY = FileKind("empty", "copy or download it again")
DOWNLOAD_PAGE = FileKind("a web page (HTML)", "the link gave a page, as Google Drive does: download the file in it")
LFS_POINTER = FileKind("a Git LFS pointer without its content", "fetch the file with `git lfs pull`")
SAFETENSORS = FileKind("a safetensors file", "load it with safetensors.torch.load_file and save that with torch.save")
TORCH_FILE = FileKind("a PyTorch checkpoint", "convert it with `synergy convert`")
CHECKPOINT = FileKind("a MindSpore checkpoint (.ckpt)", "it is converted already: give it to `synergy export`")
SAVE_AS_NPZ = "load it and save its arrays with numpy.savez"
GIVE_THE_OTHER = "give another file"
UNPACK = "unpack it first"
TEXT_FILE = FileKind("a text file", GIVE_THE_OTHER)
MINDIR_FILE = FileKind("a MindIR model", GIVE_THE_OTHER)
ONNX_FILE = FileKind("an ONNX model", "weights are taken from the checkpoint that it was exported from: give that")
LITE_FILE = FileKind("a MindSpore Lite model (.ms)", GIVE_THE_OTHER)
MODEL_KINDS = {".mindir": MINDIR_FILE, ".onnx": ONNX_FILE, ".ms": LITE_FILE}  # by file name suffix

# first bytes: kind
MAGIC: tuple[tuple[bytes, FileKind], ...] = (
    (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", TORCH_FILE),  # as before PyTorch 1.6
    (b"version https://git-lfs", LFS_POINTER),
    (b"\x1f\x8b", FileKind("compressed with gzip", "unpack it with gunzip")),
    (b"BZh", FileKind("compressed with bzip2", UNPACK)),
    (b"\xfd7zXZ\0", FileKind("compressed with xz", UNPACK)),
    (b"\x28\xb5\x2f\xfd", FileKind("compressed with zstd", UNPACK)),
    (b"7z\xbc\xaf\x27\x1c", FileKind("a 7z archive", UNPACK)),
    (b"Rar!", FileKind("a RAR archive", UNPACK)),
    (b"\x93NUMPY", FileKind("a single NumPy array (.npy)", "save it with numpy.savez, under its name")),
    (b"\x89HDF\r\n\x1a\n", FileKind("an HDF5 file", SAVE_AS_NPZ)),
    (b"MATLAB 5.0 MAT-file", FileKind("a MATLAB file (.mat)", SAVE_AS_NPZ)),
    (b"MATLAB 7.3 MAT-file", FileKind("a MATLAB 7.3 file (.mat)", SAVE_AS_NPZ)),
    (b"\xff\xd8\xff", FileKind("a JPEG image", GIVE_THE_OTHER)),
    (b"\x89PNG", FileKind("a PNG image", GIVE_THE_OTHER)),
    (b"%PDF", FileKind("a PDF document", GIVE_THE_OTHER)),
)
HTML = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<!--.*?-->\s*)?<(?:!doctype html|html|head|meta)", re.IGNORECASE | re.DOTALL
)
# protobuf: field 1 of a message, then the fields that follow in each of the formats
ONNX = re.compile(rb"\x08[\x01-\x1f][\x12\x1a\x22\x28\x32\x3a\x42]")
MINDIR = re.compile(rb"\x0a[\x01-\x20][0-9.]+\x12.MindSpore")
CKPT = re.compile(rb"\x0a[\x80-\xff]*[\x00-\x7f]\x0a([\x01-\x7f])[A-Za-z_][\w.]*\x12")
PICKLE_FILE = FileKind("a pickle that torch.save did not write", GIVE_THE_OTHER)
PICKLE = re.compile(rb"\x80[\x01-\x05]")


def file_kind(head: bytes) -> FileKind | None:
    """The kind of a file that begins with `head` (at least `HEAD_BYTES`, or all of it); None if it is not known."""
    if not head:
        return EMPTY
    for magic, kind in MAGIC:
        if head.startswith(magic):
            return kind
    if head.startswith(b"PK\x03\x04"):
        return _archive_kind(head)
    if head[257:262] == b"ustar":
        return FileKind("a tar archive", "unpack it with tar -xf")
    if head[8:10] == b'{"' and int.from_bytes(head[:8], "little") < 1 << 40:
        return SAFETENSORS
    if head[4:8] in (b"MSL0", b"MSL1", b"MSL2"):
        return LITE_FILE
    if HTML.match(head[:HEAD_BYTES]):
        return DOWNLOAD_PAGE
    for pattern, kind in (
        (MINDIR, MINDIR_FILE),
        (CKPT, CHECKPOINT),
        (ONNX, ONNX_FILE),
        (PICKLE, PICKLE_FILE),
    ):
        if pattern.match(head):
            return kind
    return TEXT_FILE if _is_text(head[:HEAD_BYTES]) else None


def mismatch(head: bytes, expected: str) -> str:
    """What to say, after the path, of a file that is not `expected` ("a PyTorch checkpoint"); in one line."""
    kind = file_kind(head)
    if kind is None or kind.name == expected:
        return f"is not {expected}, or is damaged: copy or download it again"
    return f"is not {expected} but {kind.name}: {kind.cure}"


def _archive_kind(head: bytes) -> FileKind:
    """A zip archive, by the name of its first member."""
    length = int.from_bytes(head[26:28], "little")
    name = head[30 : 30 + length]
    if name.endswith((b"/data.pkl", b"/.format_version", b"/byteorder", b"/version")) or name == b"data.pkl":
        return TORCH_FILE
    if name.endswith(b".npy"):
        return FileKind("a .npz file", GIVE_THE_OTHER)
    return FileKind("a zip archive", "unpack it, and give the file in it")


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8", errors="strict") if len(head) < HEAD_BYTES else head[:-4].decode("utf-8", "ignore")
    except UnicodeDecodeError:
        return False
    return all(char.isprintable() or char in "\t\r\n\ufeff" for char in text)
