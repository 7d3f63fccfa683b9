"""`synergy detector install`: find, fetch and check the model file of the YuNet face detector."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from synergy.runtime.errors import MediaError
from synergy.runtime.files import write_file

MODEL_NAME = "face_detection_yunet_2026may.onnx"
SHA256 = "ebafce4e3c118d6554634be5c27ab333b4c047a9a8c3faf1d7cf93101c22f0f0"
# The repository stores the model with Git LFS; this host serves the content. The commit pins the version.
URL = (
    "https://media.githubusercontent.com/media/opencv/opencv_zoo/47534e27c9851bb1128ccc0102f1145e27f23f98/"
    f"models/face_detection_yunet/{MODEL_NAME}"
)
MAX_BYTES = 1 << 20  # the file has 229,738
TIMEOUT_S = 30.0
ENVIRONMENT_VARIABLE = "SYNERGY_DETECTOR"
INSTALL_HINT = "run `synergy detector install`"


def installed_path() -> Path:
    """Where `install_yunet` puts the model, whether it is there or not."""
    from synergy.runtime.lite.locate import data_folder  # a model that is named does not need it

    return data_folder() / "detector" / MODEL_NAME


def find_yunet() -> Path | None:
    """The YuNet model that SYNERGY_DETECTOR names, else the installed one, else None.

    Raises MediaError if SYNERGY_DETECTOR names no file, or the installed file is not the published one.
    """
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    if named:
        if not Path(named).is_file():
            raise MediaError(f"{ENVIRONMENT_VARIABLE}={named} is not a file: correct it or unset it")
        return Path(named)
    path = installed_path()
    if not path.is_file():
        return None
    _check_hash(_read(path), f"{path} was changed after its installation: {INSTALL_HINT}")
    return path


def install_yunet(source: Path | None = None) -> Path:
    """Fetch the model, or copy it from `source`, and return its path. An installed model is not fetched again.

    The hash is checked before the file is put in place. Raises MediaError if the model cannot be fetched, read or
    written, or is not the published file.
    """
    if source is None and installed_path().is_file() and is_published(installed_path()):
        return installed_path()
    if source is None:
        data = _fetch(URL)
        cure = "try again, or download it elsewhere and use `synergy detector install --from FILE`"
        _check_hash(data, f"what {URL} returned is not {MODEL_NAME}: {cure}")
    else:
        data = _read(source)
        _check_hash(data, f"{source} is not {MODEL_NAME} (sha256 {SHA256}): download it from {URL}")
    write_file(installed_path(), data)
    return installed_path()


def _fetch(url: str) -> bytes:
    from http.client import HTTPException
    from urllib.request import urlopen

    try:
        with urlopen(url, timeout=TIMEOUT_S) as response:
            data: bytes = response.read(MAX_BYTES)
    except (OSError, HTTPException) as error:  # urllib's URLError is an OSError
        cure = "check the network, or download it elsewhere and use `synergy detector install --from FILE`"
        raise MediaError(f"cannot fetch {url}: {getattr(error, 'reason', None) or error}; {cure}") from None
    return data


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES)
    except OSError as error:
        raise MediaError(f"cannot read {path}: {error.strerror or error}") from None


def is_published(path: Path) -> bool:
    """Whether a file is the published model. Raises MediaError if it cannot be read."""
    return _is_model(_read(path))


def _is_model(data: bytes) -> bool:
    return hashlib.sha256(data).hexdigest() == SHA256


def _check_hash(data: bytes, message: str) -> None:
    if not _is_model(data):
        raise MediaError(message)
