"""One aligner, tracker or pool in several threads, closed meanwhile, after a fork, pickled."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from synergy.runtime.aligner import FaceAligner
from synergy.runtime.bundle import BUILTIN
from synergy.runtime.detection.haar import HaarDetector
from synergy.runtime.engines import available
from synergy.runtime.errors import EngineError
from synergy.runtime.faces import Face
from synergy.runtime.inference.face_pool import FacePool
from synergy.runtime.tracking.tracker import FaceTracker
from tests.runtime.open_close_cycles import growth
from tests.runtime.threads import errors_of_calls_while_closing, run_in_threads, wrong_results

BOXES = ([180, 72, 270, 184], [200, 100, 300, 220], [100, 60, 200, 180])
FORK_S = 20


@pytest.fixture(params=["onnx", "openvino", "onnx isolated"])
def aligner(request: pytest.FixtureRequest) -> Iterator[FaceAligner]:
    engine, _, isolated = request.param.partition(" ")
    if not available(engine).ok:
        pytest.skip(available(engine).detail)
    with FaceAligner.load(engine=engine, threads=1, isolated=bool(isolated), detector=HaarDetector()) as opened:
        yield opened


def same_faces(found: list[Face], expected: list[Face]) -> bool:
    pairs = zip(found, expected, strict=True)
    return all(np.abs(one.landmarks - other.landmarks).max() < 1e-3 for one, other in pairs)


def in_forked_child(check: Callable[[], bool]) -> int:
    """Exit status of a child that runs `check`: 0 if it returns true; negative if it hangs."""
    child = os.fork()
    if not child:
        try:
            signal.alarm(FORK_S)
            os._exit(0 if check() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_every_thread_gets_its_own_faces(aligner: FaceAligner, portrait_bgr: np.ndarray) -> None:
    assert not wrong_results(lambda box: aligner.align(portrait_bgr, [box]), BOXES, same_faces)


def test_threads_share_the_detector(aligner: FaceAligner, portrait_bgr: np.ndarray) -> None:
    pictures = [portrait_bgr[:256, 100:356], np.ascontiguousarray(portrait_bgr[:300, 80:380, :])]
    assert not wrong_results(aligner, pictures, same_faces, rounds=3)


def test_closing_meanwhile_is_an_error_in_words(aligner: FaceAligner, portrait_bgr: np.ndarray) -> None:
    errors = errors_of_calls_while_closing(lambda: aligner.align(portrait_bgr, BOXES), aligner.close)
    assert [str(error) for error in errors] == [f"this {aligner.engine.name} engine is closed: open another one"] * 2
    assert all(type(error) is EngineError for error in errors)


@pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="needs fork")
def test_a_forked_child_gets_right_results_or_a_reason(aligner: FaceAligner, portrait_bgr: np.ndarray) -> None:
    expected = aligner.align(portrait_bgr, BOXES)

    def check() -> bool:
        try:
            return same_faces(aligner.align(portrait_bgr, BOXES), expected)
        except EngineError as error:
            return "open one in the child" in str(error) and aligner.close() is None

    assert in_forked_child(check) == 0
    assert same_faces(aligner.align(portrait_bgr, BOXES), expected)


def test_openvino_runs_in_parallel() -> None:
    """With one thread per run, two runs take two cores: the model is compiled again, for both."""
    if not available("openvino").ok:
        pytest.skip(available("openvino").detail)
    with FaceAligner.load(engine="openvino", threads=1) as aligner:
        assert not aligner.engine.models[-1].shared
        crops = [np.full((1, 120, 120, 3), shade, np.uint8) for shade in (0, 90, 180)]
        alone = [aligner.predict(each).params for each in crops]
        assert not wrong_results(
            lambda which: aligner.predict(crops[which]).params,
            range(3),
            lambda found, expected: np.allclose(found, expected, atol=1e-4),
        )
        np.testing.assert_allclose([aligner.predict(each).params for each in crops], alone, atol=1e-4)
        assert any(model.shared for model in aligner.engine.models.values()) == (len(os.sched_getaffinity(0)) > 1)


def test_nothing_with_a_session_is_pickled() -> None:
    with FaceAligner.load(engine="onnx") as aligner:
        for each in (aligner, aligner.engine, aligner.predictor, FaceTracker(aligner), HaarDetector()):
            with pytest.raises(TypeError, match="cannot be pickled or copied: open one in each process"):
                pickle.dumps(each)


def test_a_tracker_in_two_threads_is_refused() -> None:
    entered, leave = threading.Event(), threading.Event()

    class Slow:
        def detect(self, image_bgr: np.ndarray) -> list:
            entered.set()
            leave.wait(10)
            return []

    frame = np.zeros((120, 160, 3), np.uint8)
    with FaceAligner.load(engine="onnx", detector=Slow()) as aligner:
        tracker = FaceTracker(aligner)

        def second() -> None:
            entered.wait(10)
            try:
                with pytest.raises(ValueError, match="one FaceTracker per video"):
                    tracker.track(frame)
            finally:
                leave.set()

        run_in_threads([lambda: tracker.track(frame), second])
        assert tracker.track(frame) == []


def test_a_pool_in_threads_after_a_fork_and_after_close(tmp_path: Path) -> None:
    crops = [np.full((1, 120, 120, 3), shade, np.uint8) for shade in (0, 200)]
    with FacePool.load(BUILTIN, engine="onnx", workers=1) as pool:
        assert not wrong_results(
            lambda crop: [each.params for each in pool.predict([crop] * 3)],
            crops,
            lambda found, expected: np.array_equal(found, expected),
            rounds=3,
        )

        def check() -> bool:
            try:
                pool.predict(crops)
            except EngineError as error:
                pool.close()
                return "open one in the child" in str(error)
            return False

        assert in_forked_child(check) == 0
        assert len(list(pool.predict(crops))) == 2
        with pytest.raises(TypeError, match="a FacePool cannot be pickled"):
            pickle.dumps(pool)
        errors = errors_of_calls_while_closing(lambda: list(pool.predict(crops)), pool.close)
    assert {str(error) for error in errors} == {"this pool is closed: open another one"}
    with pytest.raises(EngineError, match="this pool is closed"):
        pool.predict(crops)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="descriptors are counted in /proc")
@pytest.mark.parametrize("isolated", [False, True])
def test_opening_and_closing_leaves_nothing_behind(isolated: bool) -> None:
    left = growth(None, "onnx", isolated, cycles=4, warm_up=1)
    assert (left.descriptors, left.threads, left.children) == (0, 0, 0)
