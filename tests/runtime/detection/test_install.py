"""Finding, fetching and checking YuNet's model file."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import pytest

from synergy.runtime.detection import install
from synergy.runtime.detection.install import find_yunet, install_yunet, installed_path
from synergy.runtime.errors import MediaError


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes | Exception], None]:
    """Replace the network: every address returns these bytes, or fails with this error."""

    def use(content: bytes | Exception) -> None:
        def urlopen(url: str, timeout: float) -> io.BytesIO:
            assert url == install.URL and timeout > 0
            if isinstance(content, Exception):
                raise content
            return io.BytesIO(content)

        monkeypatch.setattr("urllib.request.urlopen", urlopen)

    return use


def test_nothing_is_installed(data_home: Path) -> None:
    assert find_yunet() is None
    assert not data_home.exists()


def test_fetch(data_home: Path, published_yunet: Path, serve: Callable[[bytes | Exception], None]) -> None:
    for answer in (published_yunet.read_bytes(), URLError("an installed model is not fetched again")):
        serve(answer)
        path = install_yunet()
        assert path == find_yunet() == installed_path()
        assert path.read_bytes() == published_yunet.read_bytes()
        assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert path.is_relative_to(data_home)


def test_copy(data_home: Path, published_yunet: Path) -> None:
    assert install_yunet(published_yunet) == find_yunet()


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", bytes(2 << 20)])
def test_another_file_is_not_installed(
    data_home: Path, tmp_path: Path, serve: Callable[[bytes | Exception], None], content: bytes
) -> None:
    serve(content)
    with pytest.raises(MediaError, match=r"returned is not face_detection_yunet_2026may\.onnx: .*--from FILE"):
        install_yunet()
    (tmp_path / "other.onnx").write_bytes(content)
    with pytest.raises(MediaError, match=r"other\.onnx is not face_detection_yunet_2026may\.onnx .*: download it from"):
        install_yunet(tmp_path / "other.onnx")
    assert find_yunet() is None


@pytest.mark.parametrize("error", [URLError("no route to host"), TimeoutError("timed out")])
def test_no_network(data_home: Path, serve: Callable[[bytes | Exception], None], error: Exception) -> None:
    serve(error)
    with pytest.raises(MediaError, match=r"cannot fetch https://.*(no route|timed out).*--from FILE"):
        install_yunet()


def test_command(data_home: Path, published_yunet: Path, synergy: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = synergy("detector", "install", "--from", published_yunet)
    assert (code, out, err) == (0, f"YuNet is ready in {installed_path()}\n", "")
    code, out, err = synergy("detector", "install", "--from", data_home / "none.onnx")
    assert code == 1 and out == "" and err.startswith("error: cannot read ")


def test_missing_source(data_home: Path, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"cannot read .*none\.onnx: No such file"):
        install_yunet(tmp_path / "none.onnx")


def test_an_altered_file_is_refused(data_home: Path, published_yunet: Path) -> None:
    path = install_yunet(published_yunet)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(MediaError, match=r"was changed after its installation: run `synergy detector install`"):
        find_yunet()


def test_environment_variable(data_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "own.onnx"
    monkeypatch.setenv("SYNERGY_DETECTOR", str(path))
    with pytest.raises(MediaError, match=r"SYNERGY_DETECTOR=.*own\.onnx is not a file: correct it or unset it"):
        find_yunet()
    path.write_bytes(b"any model")
    assert find_yunet() == path
