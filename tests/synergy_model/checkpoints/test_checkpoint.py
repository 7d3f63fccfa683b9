"""MindSpore checkpoints: round trips, complete files only, and a list of every problem."""

from __future__ import annotations

import re
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor

from synergy.synergy_model.checkpoints import checkpoint as module
from synergy.synergy_model.checkpoints.checkpoint import (
    Checkpoint,
    CheckpointError,
    DenseMorphable,
    compare,
    fill,
    load_checkpoint,
    save_checkpoint,
)
from synergy.synergy_model.synergynet import SynergyNet

VERTICES = 4
ABOUT = {"arch": "mb05", "convention": "3ddfa_v2", "refiner": False, "regressor": False}


def filled(network: SynergyNet, seed: int = 0) -> SynergyNet:
    """Every parameter another random number, so that none can be confused with another."""
    random = np.random.default_rng(seed)
    weights = {
        name: random.normal(size=param.shape).astype(np.float32) for name, param in network.parameters_and_names()
    }
    fill(network, weights, "random numbers")
    return network


@pytest.fixture(scope="module")
def network() -> SynergyNet:
    return filled(SynergyNet("mb05", "3ddfa_v2", refiner=False, regressor=False))


def dense(triangles: np.ndarray) -> DenseMorphable:
    random = np.random.default_rng(1)
    bases = [random.normal(size=(3 * VERTICES, width)).astype(np.float32) for width in (1, 40, 10)]
    return DenseMorphable(*bases, triangles=triangles)


def arrays(network: SynergyNet) -> dict[str, np.ndarray]:
    return {name: param.asnumpy() for name, param in network.parameters_and_names()}


def same(left: SynergyNet, right: SynergyNet) -> bool:
    ours, theirs = arrays(left), arrays(right)
    return ours.keys() == theirs.keys() and all(np.array_equal(ours[name], theirs[name]) for name in ours)


def save_raw(path: Path, weights: dict[str, np.ndarray], about: dict) -> Path:
    """A checkpoint file with any content at all."""
    entries = [{"name": name, "data": Tensor(value)} for name, value in weights.items()]
    ms.save_checkpoint(entries, str(path), append_dict=about)
    return path


# --- round trip ---


@pytest.mark.parametrize(
    ("arch", "convention", "refiner", "regressor"),
    [
        ("mobilenet_v2", "synergynet", True, True),
        ("mobilenet_v2", "synergynet", True, False),
        ("mobilenet_1", "synergynet", False, True),
        ("mb05", "3ddfa_v2", False, False),
        ("mb05", "synergynet", False, False),
    ],
)
def test_round_trip(tmp_path: Path, arch: str, convention: str, refiner: bool, regressor: bool) -> None:
    network = filled(SynergyNet(arch, convention, refiner, regressor))
    save_checkpoint(tmp_path / "a.ckpt", Checkpoint(network, None))
    loaded = load_checkpoint(tmp_path / "a.ckpt")
    assert loaded.dense is None and same(loaded.network, network)
    found = loaded.network
    assert (found.arch, found.morphable.convention) == (arch, convention)
    assert (found.refiner is not None, found.regressor is not None) == (refiner, regressor)


@pytest.mark.parametrize("triangles", [[[0, 1, 2], [1, 2, 3]], np.zeros((0, 3))], ids=["triangles", "none"])
def test_dense_basis_round_trip(tmp_path: Path, network: SynergyNet, triangles: np.ndarray) -> None:
    """A basis without triangles is what official files carry."""
    given = dense(np.asarray(triangles, np.int32))
    save_checkpoint(tmp_path / "a.ckpt", Checkpoint(network, given))
    found = load_checkpoint(tmp_path / "a.ckpt").dense
    assert found is not None
    for key in ("u", "w_shp", "w_exp", "triangles"):
        left, right = getattr(found, key), getattr(given, key)
        assert left.dtype == right.dtype and left.shape == right.shape and np.array_equal(left, right)


def test_loading_draws_no_random_numbers_into_the_network(tmp_path: Path, network: SynergyNet) -> None:
    save_checkpoint(tmp_path / "a.ckpt", Checkpoint(network, None))
    for seed in (1, 2):
        ms.set_seed(seed)
        assert same(load_checkpoint(tmp_path / "a.ckpt").network, network)


def test_trainable_stays_trainable(tmp_path: Path, network: SynergyNet) -> None:
    save_checkpoint(tmp_path / "a.ckpt", Checkpoint(network, None))
    loaded = load_checkpoint(tmp_path / "a.ckpt").network
    assert [p.name for p in loaded.trainable_params()] == [p.name for p in network.trainable_params()]
    assert not any(name.startswith("morphable") for name in (p.name for p in loaded.trainable_params()))


def test_a_loaded_checkpoint_can_be_saved_again(tmp_path: Path, network: SynergyNet) -> None:
    save_checkpoint(tmp_path / "a.ckpt", Checkpoint(network, dense(np.int32([[0, 1, 2]]))))
    save_checkpoint(tmp_path / "b.ckpt", load_checkpoint(tmp_path / "a.ckpt"))
    again = load_checkpoint(tmp_path / "b.ckpt")
    assert same(again.network, network) and again.dense is not None


# --- the file appears whole or not at all ---


def test_new_folders_are_made_and_nothing_else_is_left(tmp_path: Path, network: SynergyNet) -> None:
    path = tmp_path / "new" / "folder" / "a.ckpt"
    save_checkpoint(path, Checkpoint(network, None))
    assert [entry.name for entry in path.parent.iterdir()] == ["a.ckpt"]
    assert path.stat().st_mode & 0o777 == 0o644  # MindSpore alone leaves it read-only


def test_an_older_file_is_replaced(tmp_path: Path, network: SynergyNet) -> None:
    path = tmp_path / "a.ckpt"
    path.write_bytes(b"old")
    save_checkpoint(path, Checkpoint(network, None))
    assert same(load_checkpoint(path).network, network)


@pytest.mark.parametrize("moment", ["while writing", "before writing"])
def test_failure_leaves_the_older_file(
    tmp_path: Path, network: SynergyNet, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def fail(entries: list, name: str, **_: object) -> None:
        if moment == "while writing":
            Path(name).write_bytes(b"half")
        raise RuntimeError("disk full")

    path = tmp_path / "a.ckpt"
    path.write_bytes(b"old")
    monkeypatch.setattr(module.ms, "save_checkpoint", fail)
    with pytest.raises(RuntimeError, match="disk full"):
        save_checkpoint(path, Checkpoint(network, None))
    assert path.read_bytes() == b"old" and [entry.name for entry in tmp_path.iterdir()] == ["a.ckpt"]


@pytest.mark.parametrize("name", ["a", "a.pth", "a.ckpt.bak", "a.CKPT"])
def test_another_suffix_is_refused_or_works(tmp_path: Path, network: SynergyNet, name: str) -> None:
    """MindSpore reads `.ckpt` only: what cannot be read again must not be written."""
    path = tmp_path / name
    try:
        save_checkpoint(path, Checkpoint(network, None))
    except CheckpointError as error:
        assert ".ckpt" in str(error) and not path.exists()
    else:
        assert same(load_checkpoint(path).network, network)


# --- files that cannot be used ---


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*nowhere\.ckpt"):
        load_checkpoint(tmp_path / "nowhere.ckpt")
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("share", [0, 0.0001, 0.01, 0.3, 0.5, 0.9, 0.999, 0.99999])
def test_truncated(tmp_path: Path, network: SynergyNet, share: float) -> None:
    save_checkpoint(tmp_path / "whole.ckpt", Checkpoint(network, dense(np.int32([[0, 1, 2]]))))
    data = (tmp_path / "whole.ckpt").read_bytes()
    path = tmp_path / "cut.ckpt"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(CheckpointError, match=r"cut\.ckpt") as raised:
        load_checkpoint(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "content",
    [b"a text file\n" * 20, b"\x80\x02}q\x00.", b"PK\x03\x04" + bytes(60), bytes(1000)],
    ids=["text", "pickle", "zip", "zeros"],
)
def test_other_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.ckpt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"other\.ckpt is not a MindSpore checkpoint"):
        load_checkpoint(path)


@pytest.mark.parametrize("absent", list(ABOUT))
def test_missing_metadata(tmp_path: Path, network: SynergyNet, absent: str) -> None:
    about = {key: value for key, value in ABOUT.items() if key != absent}
    path = save_raw(tmp_path / "a.ckpt", arrays(network), about)
    with pytest.raises(CheckpointError, match=r"a\.ckpt does not say which architecture.*synergy convert"):
        load_checkpoint(path)


@pytest.mark.parametrize("change", [{"arch": "vgg"}, {"convention": "mine"}, {"arch": 5}, {"refiner": True}])
def test_metadata_with_unknown_names(tmp_path: Path, network: SynergyNet, change: dict) -> None:
    path = save_raw(tmp_path / "a.ckpt", arrays(network), {**ABOUT, **change})
    with pytest.raises(CheckpointError, match=r"a\.ckpt"):
        load_checkpoint(path)


def test_all_kinds_of_problems_in_one_message(tmp_path: Path, network: SynergyNet) -> None:
    weights = arrays(network)
    del weights["backbone.conv1.weight"]
    weights["surplus"] = np.zeros(3, np.float32)
    weights["backbone.bn1.gamma"] = np.zeros(7, np.float32)
    weights["morphable.param_mean"] = np.full(62, np.nan, np.float32)
    path = save_raw(tmp_path / "a.ckpt", weights, ABOUT)
    with pytest.raises(CheckpointError, match=r"a\.ckpt does not fit mb05") as raised:
        load_checkpoint(path)
    message = str(raised.value)
    assert "1 missing: backbone.conv1.weight" in message and "1 unexpected: surplus" in message
    assert "1 misshaped: backbone.bn1.gamma (7,) instead of (16,)" in message
    assert "1 not finite: morphable.param_mean" in message and "\n" not in message


@pytest.mark.parametrize("absent", ["u", "w_shp", "w_exp", "triangles"])
def test_part_of_a_dense_basis(tmp_path: Path, network: SynergyNet, absent: str) -> None:
    basis = dense(np.int32([[0, 1, 2]]))
    parts = {f"dense.{key}": getattr(basis, key) for key in ("u", "w_shp", "w_exp", "triangles") if key != absent}
    path = save_raw(tmp_path / "a.ckpt", {**arrays(network), **parts}, ABOUT)
    if absent == "triangles":  # as a point cloud is stored, or refused: but never a traceback later
        try:
            found = load_checkpoint(path).dense
        except CheckpointError as error:
            assert "triangles" in str(error)
        else:
            assert found is not None and found.triangles.shape == (0, 3)
        return
    with pytest.raises(CheckpointError, match=f"dense basis lacks {absent}"):
        load_checkpoint(path)


# --- filling ---


def test_a_failed_fill_changes_nothing() -> None:
    network = filled(SynergyNet("mb05", "3ddfa_v2", refiner=False, regressor=False))
    before = arrays(network)
    weights = {name: value + 1 for name, value in before.items()}
    weights["backbone.conv1.weight"] = np.zeros(3, np.float32)
    with pytest.raises(CheckpointError):
        fill(network, weights, "test")
    assert all(np.array_equal(value, before[name]) for name, value in arrays(network).items())


def test_fill_copies(network: SynergyNet) -> None:
    fresh = SynergyNet("mb05", "3ddfa_v2", refiner=False, regressor=False)
    weights = {name: value.copy() for name, value in arrays(network).items()}
    fill(fresh, weights, "test")
    for value in weights.values():
        value[:] = 0
    assert same(fresh, network)


def test_fill_keeps_names_and_takes_any_layout(network: SynergyNet) -> None:
    fresh = SynergyNet("mb05", "3ddfa_v2", refiner=False, regressor=False)
    fill(fresh, {name: np.asfortranarray(value) for name, value in arrays(network).items()}, "test")
    assert same(fresh, network)
    assert all(isinstance(p, Parameter) and p.name == name for name, p in fresh.parameters_and_names())


@pytest.mark.parametrize(
    ("given", "problems"),
    [
        ({"a": (1,), "b": (2,)}, []),
        ({"a": (1,)}, ["1 missing: b"]),
        ({"a": (1,), "b": (2,), "c": ()}, ["1 unexpected: c"]),
        ({"a": (1,), "b": (3,)}, ["1 misshaped: b (3,) instead of (2,)"]),
        ({}, ["2 missing: a, b"]),
        ({"b": (1,), "c": ()}, ["1 missing: a", "1 unexpected: c", "1 misshaped: b (1,) instead of (2,)"]),
    ],
)
def test_compare(given: dict, problems: list[str]) -> None:
    assert compare({"a": (1,), "b": (2,)}, given) == problems


def test_compare_cuts_long_lists() -> None:
    (problem,) = compare({f"key{i}": () for i in range(30)}, {})
    assert re.fullmatch(r"30 missing: key0, .*key7 \.\.\. and 22 more", problem)
