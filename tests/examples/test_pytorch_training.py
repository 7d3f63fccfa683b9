"""The example that trains in PyTorch: drawing faces and writing bases, which need no PyTorch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from synergy.synergy_model.synthetic.distribution import WIDE
from synergy.synergy_model.synthetic.faces import SyntheticFaces

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "pytorch_training"
COUNT, SEED = 9, 5


def _run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLE / script), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)


@pytest.mark.e2e
def test_drawn_faces_are_those_of_the_seed_and_a_folder_of_others_is_refused(tmp_path: Path) -> None:
    done = _run("draw_faces.py", tmp_path, "--count", COUNT, "--seed", SEED, "--wide", 0.5, "--workers", 1)
    assert done.returncode == 0, done.stderr
    assert f"{COUNT} of {COUNT} faces" in done.stdout
    images = np.fromfile(tmp_path / "images.u8", np.uint8).reshape(COUNT, 120, 120, 3)
    params = np.fromfile(tmp_path / "params.f32", np.float32).reshape(COUNT, 62)
    wide, standard = SyntheticFaces(SEED, WIDE), SyntheticFaces(SEED)
    assert (images[0] == wide.image(0)).all() and (images[-1] == standard.image(COUNT - 1)).all()
    labels = [*(wide.labels(index) for index in range(COUNT - 1)), standard.labels(COUNT - 1)]
    assert (params == np.stack([label.params for label in labels])).all()
    assert json.loads((tmp_path / "faces.json").read_text()) == {"count": COUNT, "seed": SEED, "wide": 0.5}
    measured = _run("measure.py", tmp_path, tmp_path / "sheet.png")
    assert measured.returncode == 0, measured.stderr
    assert "| wide distribution | 8 |" in measured.stdout and (tmp_path / "sheet.png").stat().st_size > 1000
    other = _run("draw_faces.py", tmp_path, "--count", COUNT, "--seed", SEED + 1, "--workers", 1)
    assert other.returncode != 0 and "another folder" in other.stderr


@pytest.mark.e2e
def test_bases_have_the_names_that_convert_reads(tmp_path: Path) -> None:
    done = _run("write_bases.py", tmp_path / "bases.npz")
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "bases.npz") as arrays:
        shapes = {name: arrays[name].shape for name in arrays.files}
    assert shapes["u_base"] == (204, 1) and shapes["w_shp_base"] == (204, 40) and shapes["w_exp_base"] == (204, 10)
    vertices = shapes["u"][0]
    assert shapes["w_shp"] == (vertices, 40) and shapes["w_exp"] == (vertices, 10) and shapes["triangles"][1] == 3
