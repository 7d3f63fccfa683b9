"""Official files become complete networks, or one message lists every problem."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import pytest

from synergy.synergy_model.backbones import BACKBONES
from synergy.synergy_model.checkpoints.checkpoint import CheckpointError
from synergy.synergy_model.checkpoints.torch_conversion import SOURCES, Conversion, convert_checkpoint
from synergy.synergy_model.checkpoints.torch_pickle import TorchFileError, read_state_dict

Weights = dict[str, np.ndarray]
VERTICES = 5


@pytest.fixture(scope="module")
def mb05(shared: Path) -> Weights:
    """The real trained file, which carries no whitening and no bases."""
    return read_state_dict(shared / "checkpoints" / "real" / "mb05_120x120.pth")


@pytest.fixture(scope="module")
def mobilenet_1(shared: Path) -> Weights:
    """A SynergyNet file with whitening and bases inside."""
    return read_state_dict(shared / "checkpoints" / "reference" / "synergynet_mobilenet_1.pth.tar")


@pytest.fixture
def whitening(shared: Path) -> Path:
    return shared / "checkpoints" / "real" / "param_mean_std_62d_120x120.pkl"


@pytest.fixture
def morphable(shared: Path) -> Path:
    return shared / "morphable" / "sparse68.npz"


@pytest.fixture
def convert(torch_files: Any, whitening: Path, morphable: Path) -> Callable[..., Conversion]:
    """Write a state_dict as a file and convert it, with the real whitening and bases unless told otherwise."""

    def convert(state: Weights, **options: Any) -> Conversion:
        path = torch_files.checkpoint("source.pth", state)
        return convert_checkpoint(path, **{"whitening": whitening, "morphable": morphable, **options})

    return convert


@pytest.fixture
def npz(tmp_path: Path) -> Callable[..., Path]:
    def npz(**arrays: Any) -> Path:
        np.savez(tmp_path / "arrays.npz", **arrays)
        return tmp_path / "arrays.npz"

    return npz


def dense_arrays(**changes: np.ndarray) -> Weights:
    random = np.random.default_rng(0)
    arrays = {
        "u": random.normal(size=(3 * VERTICES, 1)),
        "w_shp": random.normal(size=(3 * VERTICES, 40)),
        "w_exp": random.normal(size=(3 * VERTICES, 10)),
        "triangles": np.array([[0, 1, 2], [2, 3, 4]]),
    }
    return {**arrays, **changes}


def sparse_arrays(path: Path) -> Weights:
    with np.load(path) as arrays:
        return {key: arrays[key] for key in ("u_base", "w_shp_base", "w_exp_base")}


def parameters(conversion: Conversion) -> Weights:
    return {name: param.asnumpy() for name, param in conversion.checkpoint.network.parameters_and_names()}


# --- official files ---


@pytest.mark.parametrize(
    ("arch", "parts"), [("mobilenet_v2", (True, True)), ("mobilenet_1", (False, True)), ("ghostnet", (True, True))]
)
def test_reference_files(shared: Path, arch: str, parts: tuple[bool, bool]) -> None:
    path = shared / "checkpoints" / "reference" / f"synergynet_{arch}.pth.tar"
    done = convert_checkpoint(path)
    network = done.checkpoint.network
    assert (network.arch, network.morphable.convention) == (arch, "synergynet")
    assert (network.refiner is not None, network.regressor is not None) == parts
    assert done.checkpoint.dense is None
    stored = read_state_dict(path)
    ours = {name.removeprefix("morphable."): value for name, value in parameters(done).items()}
    for name in ("param_mean", "param_std", "u_base", "w_shp_base", "w_exp_base"):
        assert np.array_equal(ours[name], stored[name])
    used = [
        value for key, value in stored.items() if not re.search(r"num_batches_tracked|^(u|w_shp|w_exp)$|fc_lm", key)
    ]
    if arch == "mobilenet_1":
        assert not any(key.startswith("forwardDirection") for key in stored)
    assert sorted(value.size for value in ours.values()) == sorted(value.size for value in used)


def test_real_file(convert: Callable[..., Conversion], mb05: Weights) -> None:
    network = convert(mb05).checkpoint.network
    assert (network.arch, network.morphable.convention) == ("mb05", "3ddfa_v2")
    assert network.refiner is None and network.regressor is None


def test_every_source_is_a_network() -> None:
    assert {source.arch for source in SOURCES} == set(BACKBONES)


def test_notes_say_what_is_absent(convert: Callable[..., Conversion], mobilenet_1: Weights, mb05: Weights) -> None:
    notes = "\n".join(convert(mobilenet_1, whitening=None, morphable=None).notes)
    assert re.search(r"dense mesh: left out, .*--morphable", notes)
    assert re.search(r"landmark refiner: not in the file", notes)
    assert "landmark regressor" not in notes  # it is there
    without = {key: value for key, value in mobilenet_1.items() if not key.startswith("reverseDirection")}
    done = convert(without, whitening=None, morphable=None)
    assert any("landmark regressor: not in the file" in note for note in done.notes)
    assert done.checkpoint.network.regressor is None


def test_a_part_that_cannot_be_used_is_reported(
    convert: Callable[..., Conversion], mobilenet_1: Weights, shared: Path
) -> None:
    """1280-d features do not fit mobilenet_1, even if the file has such a part."""
    other = read_state_dict(shared / "checkpoints" / "reference" / "synergynet_mobilenet_v2.pth.tar")
    refiner = {key: value for key, value in other.items() if key.startswith("forwardDirection.")}
    done = convert({**mobilenet_1, **refiner}, whitening=None, morphable=None)
    assert any("landmark refiner: left out" in note for note in done.notes)
    assert done.checkpoint.network.refiner is None


def test_notes_are_single_lines(convert: Callable[..., Conversion], mb05: Weights) -> None:
    assert all("\n" not in note and note.strip() == note for note in convert(mb05).notes)


def test_nothing_is_left_random(convert: Callable[..., Conversion], mb05: Weights, mobilenet_1: Weights) -> None:
    for state, options in ((mb05, {}), (mobilenet_1, {"whitening": None, "morphable": None})):
        results = []
        for seed in (1, 2):
            ms.set_seed(seed)
            np.random.seed(seed)
            results.append(parameters(convert(state, **options)))
        assert results[0].keys() == results[1].keys()
        assert all(np.array_equal(results[0][name], results[1][name]) for name in results[0])


def test_batch_norm_statistics_go_where_they_belong(convert: Callable[..., Conversion], mb05: Weights) -> None:
    ours = parameters(convert(mb05))
    for theirs, name in (
        ("weight", "gamma"),
        ("bias", "beta"),
        ("running_mean", "moving_mean"),
        ("running_var", "moving_variance"),
    ):
        assert np.array_equal(ours[f"backbone.bn1.{name}"], mb05[f"bn1.{theirs}"])


# --- what does not fit ---


def test_all_kinds_of_problems_in_one_message(convert: Callable[..., Conversion], mb05: Weights) -> None:
    state = {**mb05, "surplus.weight": np.zeros(3, np.float32), "another": np.zeros(1, np.float32)}
    del state["conv1.weight"], state["fc_param.bias"]
    state["dw6.conv_sep.weight"] = state["dw6.conv_sep.weight"][:-1]
    with pytest.raises(CheckpointError) as raised:
        convert(state)
    message = str(raised.value)
    assert "source.pth does not fit mb05" in message and "\n" not in message
    assert re.search(r"2 missing: .*conv1\.weight", message) and "fc_param.bias" in message
    assert re.search(r"2 unexpected: .*surplus\.weight", message) and "another" in message
    assert re.search(r"1 misshaped: .*dw6\.conv_sep\.weight \(511, 512, 1, 1\) instead of \(512, 512, 1, 1\)", message)


def test_a_long_list_is_cut_short(convert: Callable[..., Conversion], mb05: Weights) -> None:
    kept = ("dw2_1", "fc_param", "bn1")
    with pytest.raises(CheckpointError, match=r"missing: .* and \d+ more") as raised:
        convert({key: value for key, value in mb05.items() if key.startswith(kept)})
    assert len(str(raised.value)) < 1500


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("key", ["conv1.weight", "bn1.running_var", "fc_param.bias"])
def test_values_that_are_no_numbers(convert: Callable[..., Conversion], mb05: Weights, key: str, value: float) -> None:
    broken = mb05[key].copy()
    broken.reshape(-1)[0] = value
    with pytest.raises(CheckpointError, match="1 not finite"):
        convert({**mb05, key: broken})


def test_values_beyond_float32(convert: Callable[..., Conversion], mb05: Weights) -> None:
    huge = mb05["fc_param.bias"].astype(np.float64)
    huge[0] = 1e300
    with pytest.raises(CheckpointError, match="not finite"):
        convert({**mb05, "fc_param.bias": huge})


def test_half_precision_files_are_widened(convert: Callable[..., Conversion], mb05: Weights) -> None:
    half = {key: value.astype(np.float16) if value.dtype == np.float32 else value for key, value in mb05.items()}
    ours = parameters(convert(half))
    assert all(value.dtype == np.float32 for value in ours.values())
    assert np.array_equal(ours["backbone.conv1.weight"], half["conv1.weight"].astype(np.float32))


@pytest.mark.parametrize("arch", ["", "mobilenet", "resnet"])
def test_unknown_architecture_lists_the_known(convert: Callable[..., Conversion], mb05: Weights, arch: str) -> None:
    with pytest.raises(CheckpointError, match="use one of") as raised:
        convert(mb05, arch=arch)
    assert all(known in str(raised.value) for known in BACKBONES)


def test_unknown_keys_say_what_they_look_like(convert: Callable[..., Conversion]) -> None:
    state = {"encoder.weight": np.zeros(3, np.float32), "decoder.weight": np.zeros(3, np.float32)}
    with pytest.raises(CheckpointError, match=r"source\.pth.*encoder\.weight.*--arch"):
        convert(state)


def test_the_wrong_architecture_lists_what_differs(convert: Callable[..., Conversion], mb05: Weights) -> None:
    with pytest.raises(CheckpointError, match=r"does not fit mobilenet_1: .*missing.*unexpected"):
        convert(mb05, arch="mobilenet_1")


def test_the_right_architecture_may_be_named(convert: Callable[..., Conversion], mb05: Weights) -> None:
    assert convert(mb05, arch="mb05").checkpoint.network.arch == "mb05"


def test_damaged_source(convert: Callable[..., Conversion], tmp_path: Path, shared: Path) -> None:
    whole = (shared / "checkpoints" / "real" / "mb05_120x120.pth").read_bytes()
    cut = tmp_path / "cut.pth"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TorchFileError, match=r"cut\.pth.*truncated"):
        convert_checkpoint(cut)
    with pytest.raises(FileNotFoundError):
        convert_checkpoint(tmp_path / "nowhere.pth")


# --- the other networks of 3DDFA_V2, and its first version ---


def random_state(shapes: dict[str, tuple[int, ...]]) -> Weights:
    random = np.random.default_rng(0)
    return {key: random.uniform(0.1, 0.2, shape).astype(np.float32) for key, shape in shapes.items()}


def doubled(key: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a tensor of mb05 in the network of twice its width."""
    if key == "fc_param.bias":
        return shape
    if key == "fc_param.weight":
        return (shape[0], 2 * shape[1])
    return tuple(2 * n if place == 0 or (place == 1 and n > 3) else n for place, n in enumerate(shape))


@pytest.mark.parametrize(
    ("layer", "convention"), [("fc_param", "3ddfa_v2"), ("fc", "3ddfa")], ids=["mb1_120x120", "phase1_wpdc_vdc"]
)
def test_mobilenet_at_full_width(
    convert: Callable[..., Conversion], mb05: Weights, layer: str, convention: str
) -> None:
    """3DDFA_V2's default file has the keys of mb05; the last layer of 3DDFA's first version is called fc."""
    shapes = {key.replace("fc_param", layer): doubled(key, array.shape) for key, array in mb05.items()}
    done = convert({f"module.{key}": array for key, array in random_state(shapes).items()})
    network = done.checkpoint.network
    assert (network.arch, network.morphable.convention) == ("mb1", convention)
    expected = random_state(shapes)[f"{layer}.weight"]
    assert np.array_equal(parameters(done)["backbone.heads.layers.fc_param.weight"], expected)


def resnet22_shapes() -> dict[str, tuple[int, ...]]:
    """Keys and shapes of 3DDFA_V2's resnet22.pth, from its public code."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, norm: str, out: int, inp: int, size: int) -> None:
        shapes[f"{name}.weight"] = (out, inp, size, size)
        shapes.update({f"{norm}.{leaf}": (out,) for leaf in ("weight", "bias", "running_mean", "running_var")})

    conv("conv1", "bn1", 32, 3, 5)
    conv("conv2", "bn2", 64, 32, 3)
    inp = 64
    for stage, (out, count) in enumerate([(128, 3), (256, 4), (512, 3)], start=1):
        for block in range(count):
            name = f"layer{stage}.{block}"
            conv(f"{name}.conv1", f"{name}.bn1", out, inp, 3)
            conv(f"{name}.conv2", f"{name}.bn2", out, out, 3)
            if block == 0:
                conv(f"{name}.downsample.0", f"{name}.downsample.1", out, inp, 1)
            inp = out
    return {**shapes, "conv_param.weight": (62, 512, 1, 1), "conv_param.bias": (62,)}


def test_resnet22(convert: Callable[..., Conversion]) -> None:
    state = {**random_state(resnet22_shapes()), "conv_lm.bias": np.zeros(136, np.float32)}
    done = convert(state)
    assert (done.checkpoint.network.arch, done.checkpoint.network.morphable.convention) == ("resnet22", "3ddfa_v2")
    weight = parameters(done)["backbone.heads.layers.fc_param.weight"]
    assert np.array_equal(weight, state["conv_param.weight"][:, :, 0, 0])


@pytest.mark.parametrize("first", [0, 1], ids=["from 0", "from 1"])
@pytest.mark.parametrize("transposed", [False, True])
def test_upstream_morphable_files(
    convert: Callable[..., Conversion], mb05: Weights, tmp_path: Path, first: int, transposed: bool
) -> None:
    """bfm_noneck_v3.pkl has more columns than the network uses, and the rows of the landmarks; tri.pkl is an array."""
    random, vertices = np.random.default_rng(0), 80
    model = {
        "u": random.normal(size=(3 * vertices, 1)),
        "w_shp": random.normal(size=(3 * vertices, 199)),
        "w_exp": random.normal(size=(3 * vertices, 29)),
        "keypoints": random.permutation(3 * vertices)[:204],
        "tri": np.full((2, 3), 10**6),  # not the one of this model: upstream takes tri.pkl
    }
    triangles = np.array([[0, 1, 2], [2, 3, vertices - 1]])
    stored = (triangles + first).T if transposed else triangles + first
    (tmp_path / "bfm_noneck_v3.pkl").write_bytes(pickle.dumps(model, 2))
    (tmp_path / "tri.pkl").write_bytes(pickle.dumps(stored.astype(np.int32), 2))
    files = [tmp_path / "bfm_noneck_v3.pkl", tmp_path / "tri.pkl"]
    done = convert(mb05, morphable=files)
    dense, rows = done.checkpoint.dense, model["keypoints"]
    assert dense is not None and np.array_equal(dense.triangles, triangles) and dense.w_shp.shape == (3 * vertices, 40)
    ours = parameters(done)
    assert np.array_equal(ours["morphable.u_base"], model["u"][rows].astype(np.float32))
    assert np.array_equal(ours["morphable.w_exp_base"], model["w_exp"][rows, :10].astype(np.float32))


def test_upstream_morphable_file_with_other_landmarks(
    convert: Callable[..., Conversion], mb05: Weights, npz: Callable[..., Path]
) -> None:
    with pytest.raises(CheckpointError, match="keypoints must be 204 rows"):
        convert(mb05, morphable=npz(**dense_arrays(keypoints=np.arange(204))))


def test_overflowed_bases_are_replaced(
    convert: Callable[..., Conversion], mobilenet_1: Weights, morphable: Path
) -> None:
    """Saved in half precision, the mean shape overflows: its values reach 1e5."""
    own = {**mobilenet_1, "u_base": np.full((204, 1), np.inf, np.float16)}
    with pytest.raises(CheckpointError, match=r"not finite: morphable\.u_base"):
        convert(own, whitening=None, morphable=None)
    done = convert(own, whitening=None, morphable=morphable)
    assert np.array_equal(parameters(done)["morphable.u_base"], sparse_arrays(morphable)["u_base"])


# --- whitening ---


def test_missing_whitening_names_the_option(convert: Callable[..., Conversion], mb05: Weights) -> None:
    with pytest.raises(CheckpointError, match="carries no whitening: give --whitening FILE"):
        convert(mb05, whitening=None)


@pytest.mark.parametrize("names", [("param_mean", "param_std"), ("mean", "std")])
@pytest.mark.parametrize("kind", ["npz", "pkl"])
@pytest.mark.parametrize("shape", [(62,), (62, 1), (1, 62)])
def test_whitening_in_its_official_forms(
    convert: Callable[..., Conversion],
    mb05: Weights,
    tmp_path: Path,
    names: tuple[str, str],
    kind: str,
    shape: tuple[int, ...],
) -> None:
    arrays = {names[0]: np.arange(62.0).reshape(shape), names[1]: np.full(shape, 2.0, np.float32)}
    path = tmp_path / f"w.{kind}"
    if kind == "npz":
        np.savez(path, other=np.zeros(3), **arrays)
    else:
        path.write_bytes(pickle.dumps({"other": 1, **arrays}, 4))
    ours = parameters(convert(mb05, whitening=path))
    assert np.array_equal(ours["morphable.param_mean"], np.arange(62))
    assert np.array_equal(ours["morphable.param_std"], np.full(62, 2))


@pytest.mark.parametrize("name", ["w_lists.pkl", "w_p5.pkl", "w_upper.NPZ"])
def test_whitening_in_other_forms(convert: Callable[..., Conversion], mb05: Weights, shared: Path, name: str) -> None:
    """Lists instead of arrays, the pickle protocol of Python 3.14, and an upper-case suffix."""
    convert(mb05, whitening=shared / "faults" / "whitening-files" / name)


@pytest.mark.parametrize(
    "arrays",
    [
        {"param_mean": np.zeros(62)},
        {"mean": np.zeros(62), "param_std": np.ones(62)},
        {"a": np.zeros(3)},
        {"param_mean": np.zeros(61), "param_std": np.ones(61)},
        {"param_mean": np.zeros(62), "param_std": np.zeros(62)},
        {"param_mean": np.zeros(62), "param_std": -np.ones(62)},
        {"param_mean": np.zeros(62), "param_std": np.full(62, np.nan)},
        {"param_mean": np.full(62, np.nan), "param_std": np.ones(62)},
        {"param_mean": np.full(62, "x"), "param_std": np.ones(62)},
    ],
)
def test_unusable_whitening(
    convert: Callable[..., Conversion], mb05: Weights, npz: Callable[..., Path], arrays: Weights
) -> None:
    with pytest.raises(CheckpointError):
        convert(mb05, whitening=npz(**arrays))


@pytest.mark.parametrize("content", [[1, 2], 5, "text", None, {"mean": "a", "std": "b"}, {"mean": None, "std": 1.0}])
def test_pickles_that_hold_no_whitening(
    convert: Callable[..., Conversion], mb05: Weights, tmp_path: Path, content: Any
) -> None:
    path = tmp_path / "w.pkl"
    path.write_bytes(pickle.dumps(content, 4))
    with pytest.raises((CheckpointError, TorchFileError), match=r"w\.pkl|whitening|param_mean"):
        convert(mb05, whitening=path)


def test_hostile_whitening_runs_nothing(convert: Callable[..., Conversion], mb05: Weights, tmp_path: Path) -> None:
    path, marker = tmp_path / "w.pkl", tmp_path / "owned"
    path.write_bytes(b"cos\nsystem\n(Vtouch %s\ntR." % str(marker).encode())
    with pytest.raises(TorchFileError, match="refused"):
        convert(mb05, whitening=path)
    assert not marker.exists()


@pytest.mark.parametrize("suffix", [".npz", ".pkl", ""])
@pytest.mark.parametrize("content", [b"", b"a text file\n", b"PK\x03\x04 cut"], ids=["empty", "text", "cut zip"])
def test_damaged_whitening(
    convert: Callable[..., Conversion], mb05: Weights, tmp_path: Path, suffix: str, content: bytes
) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises((CheckpointError, TorchFileError), match=r"[/]w"):
        convert(mb05, whitening=path)


def test_an_option_that_contradicts_the_file_is_refused(
    convert: Callable[..., Conversion], mobilenet_1: Weights, whitening: Path, shared: Path
) -> None:
    with pytest.raises(
        CheckpointError, match=r"its own param_\w+, and --whitening gives another: leave --whitening out"
    ):
        convert(mobilenet_1, whitening=whitening, morphable=None)
    same = shared / "morphable" / "param_whitening.pkl"
    assert convert(mobilenet_1, whitening=same, morphable=None).checkpoint.network.arch == "mobilenet_1"


# --- morphable model ---


def test_missing_bases_name_the_option(convert: Callable[..., Conversion], mb05: Weights) -> None:
    with pytest.raises(CheckpointError, match="carries no u_base, w_shp_base, w_exp_base: give --morphable"):
        convert(mb05, morphable=None)


def test_some_bases_missing(
    convert: Callable[..., Conversion], mb05: Weights, npz: Callable[..., Path], morphable: Path
) -> None:
    arrays = sparse_arrays(morphable)
    del arrays["w_exp_base"]
    with pytest.raises(CheckpointError, match="carries no w_exp_base: give --morphable"):
        convert(mb05, morphable=npz(**arrays))


def test_other_keys_are_ignored(
    convert: Callable[..., Conversion], mb05: Weights, npz: Callable[..., Path], morphable: Path
) -> None:
    path = npz(**sparse_arrays(morphable), keypoints=np.arange(204), note=np.array("hello"))
    assert convert(mb05, morphable=path).checkpoint.dense is None


def test_bases_that_contradict_the_file_are_refused(
    convert: Callable[..., Conversion], mobilenet_1: Weights, npz: Callable[..., Path], morphable: Path
) -> None:
    arrays = sparse_arrays(morphable)
    arrays["u_base"] = arrays["u_base"] + 1
    with pytest.raises(CheckpointError, match="its own u_base, and --morphable gives another"):
        convert(mobilenet_1, whitening=None, morphable=npz(**arrays))
    assert convert(mobilenet_1, whitening=None, morphable=morphable).checkpoint.dense is None


@pytest.mark.parametrize("key", ["u_base", "w_shp_base", "w_exp_base"])
@pytest.mark.parametrize("change", ["misshaped", "nan", "text"])
def test_unusable_bases(
    convert: Callable[..., Conversion], mb05: Weights, npz: Callable[..., Path], morphable: Path, key: str, change: str
) -> None:
    arrays = sparse_arrays(morphable)
    changed = {"misshaped": arrays[key][:-3], "nan": np.full_like(arrays[key], np.nan), "text": np.full(3, "x")}
    with pytest.raises(CheckpointError, match=key if change != "text" else None):
        convert(mb05, morphable=npz(**{**arrays, key: changed[change]}))


@pytest.mark.parametrize("content", [b"", b"a text file\n", b"PK\x03\x04 cut"], ids=["empty", "text", "cut zip"])
def test_damaged_morphable_file(
    convert: Callable[..., Conversion], mb05: Weights, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "m.npz"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"m\.npz is not a \.npz file"):
        convert(mb05, morphable=path)


def test_truncated_morphable_file(
    convert: Callable[..., Conversion], mb05: Weights, tmp_path: Path, morphable: Path
) -> None:
    whole = morphable.read_bytes()
    for share in (0.1, 0.5, 0.9, 0.999):
        path = tmp_path / "m.npz"
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(CheckpointError, match=r"m\.npz"):
            convert(mb05, morphable=path)


def test_flipped_bits_in_the_morphable_file(
    convert: Callable[..., Conversion], mb05: Weights, tmp_path: Path, morphable: Path
) -> None:
    whole, random = morphable.read_bytes(), np.random.default_rng(0)
    for place in [*random.integers(0, len(whole), 20), *(len(whole) - random.integers(1, 500, 20))]:
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        path = tmp_path / "m.npz"
        path.write_bytes(damaged)
        try:
            convert(mb05, morphable=path)
        except CheckpointError as error:
            assert "\n" not in str(error)


def test_one_array_instead_of_an_archive(convert: Callable[..., Conversion], mb05: Weights, tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    with path.open("wb") as stream:
        np.save(stream, np.zeros(3))
    with pytest.raises(CheckpointError, match=r"m\.npz"):
        convert(mb05, morphable=path)


def test_objects_in_an_archive_are_refused(
    convert: Callable[..., Conversion], mb05: Weights, npz: Callable[..., Path]
) -> None:
    with pytest.raises(CheckpointError, match=r"plain arrays"):
        convert(mb05, morphable=npz(u_base=np.array([{"a": 1}], object)))


def test_missing_morphable_file(convert: Callable[..., Conversion], mb05: Weights, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz"):
        convert(mb05, morphable=tmp_path / "nowhere.npz")


# --- dense mesh ---


@pytest.fixture
def convert_dense(
    convert: Callable[..., Conversion], mb05: Weights, npz: Callable[..., Path], morphable: Path
) -> Callable[[Weights], Conversion]:
    return lambda arrays: convert(mb05, morphable=npz(**sparse_arrays(morphable), **arrays))


def test_dense_basis_is_carried(convert_dense: Callable[[Weights], Conversion]) -> None:
    given = dense_arrays()
    dense = convert_dense(given).checkpoint.dense
    assert dense is not None
    for key in ("u", "w_shp", "w_exp"):
        found = getattr(dense, key)
        assert found.dtype == np.float32 and np.array_equal(found, given[key].astype(np.float32))
    assert dense.triangles.dtype == np.int32 and np.array_equal(dense.triangles, given["triangles"])


def test_dense_basis_inside_the_file(
    convert: Callable[..., Conversion], mobilenet_1: Weights, npz: Callable[..., Path]
) -> None:
    """Official files carry the dense basis but no triangles."""
    inside = {key: value for key, value in dense_arrays().items() if key != "triangles"}
    done = convert({**mobilenet_1, **inside}, whitening=None, morphable=None)
    assert done.checkpoint.dense is not None and done.checkpoint.dense.triangles.shape == (0, 3)
    assert any("no triangles" in note for note in done.notes)
    path = npz(triangles=np.array([[0, 1, 2]]))
    done = convert({**mobilenet_1, **inside}, whitening=None, morphable=path)
    assert done.checkpoint.dense is not None and np.array_equal(done.checkpoint.dense.triangles, [[0, 1, 2]])
    assert not any("dense" in note for note in done.notes)


@pytest.mark.parametrize("key", ["u", "w_shp", "w_exp"])
def test_part_of_a_dense_basis_is_noted(convert_dense: Callable[[Weights], Conversion], key: str) -> None:
    arrays = dense_arrays()
    del arrays[key]
    done = convert_dense(arrays)
    assert done.checkpoint.dense is None
    assert any(f"dense mesh: left out, {key} not in the file" in note for note in done.notes)


@pytest.mark.parametrize(
    "change",
    [
        {"u": np.zeros((3 * VERTICES + 3, 1))},
        {"u": np.zeros(3 * VERTICES)},
        {"w_shp": np.zeros((3 * VERTICES, 39))},
        {"w_exp": np.zeros((3 * VERTICES, 11))},
        {"w_exp": np.zeros((VERTICES, 10))},
        {"u": np.zeros((4, 1)), "w_shp": np.zeros((4, 40)), "w_exp": np.zeros((4, 10))},
        {"u": np.zeros((0, 1)), "w_shp": np.zeros((0, 40)), "w_exp": np.zeros((0, 10))},
    ],
)
def test_dense_basis_of_wrong_shape(convert_dense: Callable[[Weights], Conversion], change: Weights) -> None:
    with pytest.raises(CheckpointError, match=r"dense basis|triangles"):
        convert_dense(dense_arrays(**change))


@pytest.mark.parametrize("key", ["u", "w_shp", "w_exp"])
def test_dense_basis_that_is_not_finite(convert_dense: Callable[[Weights], Conversion], key: str) -> None:
    arrays = dense_arrays()
    arrays[key][3, 0] = np.nan
    with pytest.raises(CheckpointError, match=f"not finite.*{key}|{key}.*not finite"):
        convert_dense(arrays)


@pytest.mark.parametrize(
    "triangles",
    [
        np.array([[0, 1, VERTICES]]),
        np.array([[-1, 1, 2]]),
        np.array([[0, 1, 2, 3]]),
        np.array([0, 1, 2]),
        np.array([[0, 1, 2**32]]),
        np.array([[0.0, np.nan, 1.0]]),
        np.array([[0.0, 1.5, 2.0]]),
        np.array([["a", "b", "c"]]),
    ],
    ids=["one too many", "negative", "quads", "flat", "beyond int32", "nan", "fraction", "text"],
)
def test_unusable_triangles(convert_dense: Callable[[Weights], Conversion], triangles: np.ndarray) -> None:
    with pytest.raises(CheckpointError, match=f"triangles .*below {VERTICES}"):
        convert_dense(dense_arrays(triangles=triangles))


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.uint16, np.float64])
def test_triangles_of_any_number_type(convert_dense: Callable[[Weights], Conversion], dtype: type) -> None:
    triangles = np.array([[0, 1, VERTICES - 1]], dtype)
    dense = convert_dense(dense_arrays(triangles=triangles)).checkpoint.dense
    assert dense is not None and dense.triangles.dtype == np.int32
    assert np.array_equal(dense.triangles, triangles)
