"""The first arguments of `synergy infer`: a bundle, if there is one, and images."""

from __future__ import annotations

from pathlib import Path

import typer

GIVE_THE_FOLDER = "give the folder that `synergy export` made"
CONVERT = "make one with `synergy convert` and `synergy export`"
# of files that may be given as a bundle: what to do
MODEL_SUFFIXES = {
    ".onnx": GIVE_THE_FOLDER,
    ".mindir": GIVE_THE_FOLDER,
    ".ms": GIVE_THE_FOLDER,
    ".ckpt": "make one with `synergy export`",
    ".pth": CONVERT,
    ".pt": CONVERT,
    ".tar": CONVERT,
}


def bundle_and_images(inputs: list[str]) -> tuple[Path, list[str]]:
    """The first argument is a bundle if it is a folder with a manifest, or names a folder that does not exist."""
    from synergy.runtime.bundle import BUILTIN
    from synergy.runtime.manifest import MANIFEST_NAME

    first = Path(inputs[0])
    is_bundle = (first / MANIFEST_NAME).is_file()
    is_missing_folder = len(inputs) > 1 and not first.exists() and not first.suffix and first.name.isidentifier()
    if not is_bundle and first.suffix.lower() in MODEL_SUFFIXES:
        raise ValueError(f"{first} is not a bundle: {_bundle_advice(first)}")
    if not is_bundle and not is_missing_folder:
        return BUILTIN, inputs
    if len(inputs) == 1:
        raise typer.BadParameter(f"{first} is a bundle: name images, folders, videos or camera:N after it")
    return first, inputs[1:]


def _bundle_advice(model: Path) -> str:
    """What to do with a model file given as a bundle."""
    from synergy.runtime.manifest import MANIFEST_NAME

    if (model.parent / MANIFEST_NAME).is_file():
        return f"give the folder {model.parent}"
    return MODEL_SUFFIXES[model.suffix.lower()]
