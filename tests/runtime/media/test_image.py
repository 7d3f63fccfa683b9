"""Reading and writing images: every supported kind, and the message for every kind of damage."""

from __future__ import annotations

import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from synergy.runtime.errors import MediaError
from synergy.runtime.media import image as image_module
from synergy.runtime.media import inputs
from synergy.runtime.media.image import decode_image, decode_with_damage, read_image, write_image

COLOUR = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
PLAIN = cv2.resize(COLOUR, (96, 64), interpolation=cv2.INTER_NEAREST)
SMOOTH = cv2.resize(COLOUR, (90, 60))
TURN = {1: lambda a: a, 3: lambda a: np.rot90(a, 2), 6: lambda a: np.rot90(a, -1), 8: np.rot90, 2: np.fliplr}


def encode(suffix: str, image: np.ndarray) -> bytes:
    ok, data = cv2.imencode(suffix, image)
    assert ok
    return data.tobytes()


def damaged_jpeg() -> bytes:
    """With bytes missing in the middle of the pixels."""
    data = encode(".jpg", PLAIN)
    middle = (data.rindex(b"\xff\xda") + len(data)) // 2
    return data[:middle] + data[-20:]


def exif(orientation: int) -> bytes:
    """A TIFF block with only the orientation tag."""
    return b"II*\0" + struct.pack("<IHHHIII", 8, 1, 0x112, 3, 1, orientation, 0)


def jpeg_with_exif(image: np.ndarray, orientation: int) -> bytes:
    data = encode(".jpg", image)
    block = b"Exif\0\0" + exif(orientation)
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_with_exif(image: np.ndarray, orientation: int) -> bytes:
    data = encode(".png", image)
    return data[:33] + chunk(b"eXIf", exif(orientation)) + data[33:]  # behind the signature and IHDR


def png_header(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def jpeg_header(width: int, height: int) -> bytes:
    return b"\xff\xd8\xff\xff\xc0\0\x11\x08" + struct.pack(">HH", height, width) + b"\3" * 10 + b"\xff\xda\0\2\xff\xd9"


def tiff_header(width: int, height: int, order: str) -> bytes:
    entries = struct.pack(order + "HHIIHHII", 256, 4, 1, width, 257, 4, 1, height)
    return (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, 2) + entries


class TestReadImage:
    @pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".ppm"])
    def test_lossless_formats(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"a{suffix}"
        path.write_bytes(encode(suffix, COLOUR))
        assert np.array_equal(read_image(path), COLOUR)

    @pytest.mark.parametrize("name", ["été 顔.jpg", "with space.jpg", "no suffix", "[1].png"])
    def test_jpeg_is_decoded_whatever_the_file_name(self, tmp_path: Path, name: str) -> None:
        data = encode(".jpg", SMOOTH)
        (tmp_path / name).write_bytes(data)
        expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert np.array_equal(read_image(str(tmp_path / name)), expected)

    def test_grey_becomes_three_channels(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(encode(".png", COLOUR[:, :, 0]))
        assert np.array_equal(read_image(tmp_path / "a.png"), np.dstack([COLOUR[:, :, 0]] * 3))

    @pytest.mark.parametrize("suffix", [".png", ".tiff"])
    def test_16_bits_become_8(self, tmp_path: Path, suffix: str) -> None:
        deep = COLOUR.astype(np.uint16) * 256 + 77
        (tmp_path / f"a{suffix}").write_bytes(encode(suffix, deep))
        np.testing.assert_allclose(read_image(tmp_path / f"a{suffix}").astype(int), COLOUR, atol=1)

    @pytest.mark.parametrize(
        ("suffix", "dtype"), [(".png", np.uint8), (".webp", np.uint8), (".png", np.uint16), (".tiff", np.uint16)]
    )
    def test_transparency_is_blended_with_white(self, tmp_path: Path, suffix: str, dtype: type) -> None:
        image = np.dstack([np.zeros((2, 4, 3), dtype), np.tile(np.array([0, 51, 204, 255], dtype), (2, 1))])
        image[:, 1:, 2] = 200
        if dtype is np.uint16:
            image *= 257
        path = tmp_path / f"a{suffix}"
        path.write_bytes(cv2.imencode(suffix, image, [cv2.IMWRITE_WEBP_QUALITY, 101][: 2 * (suffix == ".webp")])[1])
        over = read_image(path)
        assert over[0, :, 0].tolist() == [255, 204, 51, 0]
        assert over[0, :, 2].tolist() == [255, 244, 211, 200]

    @pytest.mark.parametrize("orientation", TURN)
    def test_jpeg_is_turned_upright(self, tmp_path: Path, orientation: int) -> None:
        (tmp_path / "a.jpg").write_bytes(jpeg_with_exif(SMOOTH, orientation))
        plain = cv2.imdecode(np.frombuffer(encode(".jpg", SMOOTH), np.uint8), cv2.IMREAD_COLOR)
        assert np.array_equal(read_image(tmp_path / "a.jpg"), TURN[orientation](plain))

    @pytest.mark.parametrize("orientation", TURN)
    def test_a_transparent_image_is_turned_upright(self, tmp_path: Path, orientation: int) -> None:
        alpha = np.full((6, 9), 255, np.uint8)
        alpha[0] = 0
        (tmp_path / "a.png").write_bytes(png_with_exif(np.dstack([COLOUR, alpha]), orientation))
        over = COLOUR.copy()
        over[0] = 255
        assert np.array_equal(read_image(tmp_path / "a.png"), TURN[orientation](over))

    def test_one_pixel(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(encode(".png", COLOUR[:1, :1]))
        assert read_image(tmp_path / "a.png").shape == (1, 1, 3)

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", "is empty"),
            (b"Dear all,\nthis is a letter.", "is not an image"),
            (b"\0\0\0\x24ftypheic" + bytes(40), "is a HEIC file, which OpenCV cannot read: convert it to JPEG or PNG"),
            (b"\xff\xd8", "is incomplete"),
            (b"\x89PNG\r\n", "is incomplete"),
            (b"GIF89a", "is incomplete"),
            (b"BM", "is incomplete"),
            (b"II*\0\x08\0\0\0\x05\0", "is incomplete"),
            (encode(".jpg", SMOOTH)[:-400], "is incomplete"),
            (encode(".png", SMOOTH)[:-400], "damaged"),
            (png_header(40000, 40000), "has 40000x40000 pixels, over 256 million"),
            (jpeg_header(65000, 64000), "has 65000x64000 pixels"),
            (tiff_header(20000, 20000, "<"), "has 20000x20000 pixels"),
            (tiff_header(20001, 20000, ">"), "has 20001x20000 pixels"),
            (b"GIF89a" + struct.pack("<HH", 65535, 65535), "has 65535x65535 pixels"),
            (b"BM" + bytes(16) + struct.pack("<ii", 20000, -20000), "has 20000x20000 pixels"),
        ],
    )  # fmt: skip
    def test_damaged_and_oversized_files(self, tmp_path: Path, data: bytes, reason: str) -> None:
        path = tmp_path / "a.jpg"
        path.write_bytes(data)
        with pytest.raises(MediaError, match=reason) as caught:
            read_image(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_a_damaged_jpeg(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "a.jpg"
        path.write_bytes(damaged_jpeg())
        with pytest.raises(
            MediaError, match=r"a\.jpg is damaged \(Corrupt JPEG data: .*\): copy it again, or use --allow-dam"
        ):
            read_image(path)
        assert read_image(path, allow_damaged=True).shape == (64, 96, 3)
        path.write_bytes(encode(".jpg", PLAIN)[:-40])
        assert read_image(path, allow_damaged=True).shape == (64, 96, 3)
        assert capfd.readouterr().err == ""  # libjpeg's messages name no file

    def test_damage_is_that_of_the_right_file_in_threads(self, capfd: pytest.CaptureFixture[str]) -> None:
        whole, damaged = encode(".jpg", cv2.resize(PLAIN, (600, 400))), damaged_jpeg()
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda i: decode_with_damage(damaged if i % 5 == 0 else whole, "")[1], range(60)))
        assert [bool(damage) for damage in found] == [i % 5 == 0 for i in range(60)]
        assert capfd.readouterr().err == ""

    @pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tiff", ".gif"])
    def test_the_header_gives_the_size_before_decoding(self, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(image_module, "MAX_PIXELS", SMOOTH.shape[0] * SMOOTH.shape[1] - 1)
        with pytest.raises(MediaError, match="has 90x60 pixels"):
            decode_image(encode(suffix, SMOOTH))

    def test_folders_missing_files_and_devices(self, tmp_path: Path) -> None:
        for path, reason in (
            (tmp_path, "is a folder"),
            (tmp_path / "none.jpg", "does not exist"),
            (Path(os.devnull), "not a regular file"),
            (tmp_path / ("x" * 300), "cannot read"),
        ):
            with pytest.raises(MediaError, match=reason):
                read_image(path)

    def test_files_over_the_size_limit(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "a.png").write_bytes(encode(".png", COLOUR))
        monkeypatch.setattr(inputs, "MAX_BYTES", 20)
        with pytest.raises(MediaError, match="not a regular file of at most"):
            read_image(tmp_path / "a.png")


class TestWriteImage:
    def test_comes_back(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "sub" / "a.png"
        write_image(path, COLOUR)
        assert np.array_equal(read_image(path), COLOUR)
        assert [file.name for file in path.parent.iterdir()] == ["a.png"]

    def test_a_file_where_a_folder_should_be(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"")
        with pytest.raises(MediaError, match="cannot write"):
            write_image(tmp_path / "a" / "b.png", COLOUR)

    @pytest.mark.parametrize("name", ["a.xyz", "a"])
    def test_unknown_formats(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(MediaError, match=r"a name ending in \.png"):
            write_image(tmp_path / name, COLOUR)
