"""What `synergy bench peers` found, and how it follows from the turns that were taken."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence

import msgspec
import numpy as np

from synergy.benchmarks.accuracy.jitter import JitterReport
from synergy.benchmarks.peers.process import (
    BARE,
    ISOLATED,
    NETWORK,
    OVERHEAD,
    PATH,
    SessionProcess,
    SessionSpec,
    Workload,
)
from synergy.benchmarks.speed.interleave import BenchmarkCase, ratio_by_round
from synergy.benchmarks.speed.latency import Timing
from synergy.benchmarks.speed.peak_flops import PRODUCT_FLOP, Peak
from synergy.runtime.diagnostics.host import Host

BASELINE = "onnxruntime"  # the peer that ratios are formed against


class PeerRow(Timing, frozen=True):
    """The network alone, as `latency.Timing`: crops in memory to outputs in memory.

    engine: "onnxruntime (bare)", "openvino bf16 (bare)" and the like are peers' own sessions, with the type that they
    compute in where there is a choice; without "(bare)" it is `FaceAligner.predict` on our engine of that name.
    cold_start_s, rss_mb: with the smallest batch, the same for all batches. ratio_to_onnxruntime: over the bare session
    of onnxruntime with the same threads and batch. gflops: 10^9 operations per second, share_of_peak: of what a float32
    matrix product reached in the same rounds with the same threads (bf16 and int8 can exceed 1); None where the
    network's arithmetic is not known. even_fps: onnxruntime's fps over the ratio, for comparisons: fps is of the
    rounds that were played, and who left them early may have met a busier machine than the rest.
    """

    gflops: float | None = None
    share_of_peak: float | None = None
    even_fps: float = 0.0

    @property
    def is_bare(self) -> bool:
        """Whether it is a peer's."""
        return self.engine.endswith(BARE)


class OverheadRow(msgspec.Struct, frozen=True):
    """`FaceAligner.predict` over the bare session within the same engine, which took turns with it in one process.

    isolated: predict through a child process. ratio, added_ms: median over rounds of the ratio and the difference of
    the median times.
    """

    engine: str
    artifact: str
    isolated: bool
    threads: int
    batch: int
    predict_ms: float
    bare_ms: float
    ratio: float
    added_ms: float


class PathRow(msgspec.Struct, frozen=True):
    """From the bytes of a JPEG with one known box to 68 landmarks in its pixels, one picture at a time; fps: of these.

    A peer's is a plain script around the bare session; an engine's is `decode_image` and `FaceAligner.align`.
    """

    engine: str
    artifact: str
    threads: int
    median_ms: float
    p95_ms: float
    fps: float
    ratio_to_onnxruntime: float | None


class PeakRow(msgspec.Struct, frozen=True):
    """A float32 matrix product of NumPy with so many threads, in 10^9 operations per second."""

    threads: int
    gflops: float


class PeerReport(msgspec.Struct, frozen=True):
    """All of it. `rows` are read as those of `BenchReport`. network: its backbone; multiply_adds: of it, for one face,
    counted in the ONNX graph; `notes` name what is not compared here and how to get it, `failures` what was tried in
    vain."""

    host: Host
    network: str
    rows: tuple[PeerRow, ...]
    overhead: tuple[OverheadRow, ...]
    path: tuple[PathRow, ...]
    peak: tuple[PeakRow, ...]
    multiply_adds: int | None
    jitter: JitterReport | None
    notes: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()


class SessionCase(BenchmarkCase):
    """One kind of turn of one seat. `bare_samples` are those of the bare session that ran in between ours."""

    def __init__(self, spec: SessionSpec, starts: Sequence[SessionProcess], turn: Workload) -> None:
        super().__init__()
        self.spec, self.starts, self.turn = spec, starts, turn
        self.bare_samples: dict[int, list[float]] = {}

    def __str__(self) -> str:
        where = "picture to landmarks" if self.turn.what == PATH else f"batch {self.turn.batch}"
        return f"{self.spec}{' in a child process' if self.turn.what == ISOLATED else ''}, {where}"

    def run_sample(self, number: int) -> list[float]:
        times, *bare = self.starts[-1].turn(self.turn)
        if bare:
            self.bare_samples[number] = bare[0]
        return times


def network_rows(cases: Sequence[SessionCase], peaks: Sequence[Peak], multiply_adds: int | None) -> Iterator[PeerRow]:
    """Peers' bare sessions and our predict; by threads and batch, each in the order of the contenders."""
    chosen = [each for each in cases if each.turn.what in (NETWORK, OVERHEAD)]
    baselines = {_setting(each): each for each in chosen if each.spec.label == BASELINE + BARE}
    products = {peak.threads: peak for peak in peaks}
    for each in sorted(chosen, key=_setting):
        product, flop = products.get(each.spec.threads), 2 * (multiply_adds or 0) * each.turn.batch
        median_s = statistics.median(_times(each))
        baseline = baselines.get(_setting(each))
        ratio = _ratio(each, baseline)
        even_s = ratio * statistics.median(_times(baseline)) if ratio and baseline else median_s
        share = ratio_by_round(product.samples, each.samples) * flop / PRODUCT_FLOP if product and flop else None
        yield PeerRow(
            engine=each.spec.label,
            artifact=each.spec.artifact,
            device="cpu",
            threads=each.spec.threads,
            batch=each.turn.batch,
            median_ms=1e3 * median_s,
            p95_ms=1e3 * float(np.percentile(_times(each), 95)),
            fps=each.turn.batch / median_s,
            cold_start_s=statistics.median(start.cold_start_s for start in each.starts),
            rss_mb=statistics.median(start.rss_mb for start in each.starts),
            ratio_to_onnxruntime=ratio,
            gflops=flop / median_s / 1e9 if flop else None,
            share_of_peak=share,
            even_fps=each.turn.batch / even_s,
        )


def overhead_rows(cases: Sequence[SessionCase]) -> Iterator[OverheadRow]:
    """Ours, in the process and out of it."""
    for each in sorted((each for each in cases if each.bare_samples), key=lambda each: each.turn.what == ISOLATED):
        predict = statistics.median(_times(each))
        bare = statistics.median(run for runs in each.bare_samples.values() for run in runs)
        yield OverheadRow(
            engine=each.spec.label,
            artifact=each.spec.artifact,
            isolated=each.turn.what == ISOLATED,
            threads=each.spec.threads,
            batch=each.turn.batch,
            predict_ms=1e3 * predict,
            bare_ms=1e3 * bare,
            ratio=ratio_by_round(each.samples, each.bare_samples),
            added_ms=1e3 * _added_by_round(each),
        )


def path_rows(cases: Sequence[SessionCase]) -> Iterator[PathRow]:
    """Pictures, peers first."""
    chosen = [each for each in cases if each.turn.what == PATH]
    baseline = next((each for each in chosen if each.spec.label == BASELINE + BARE), None)
    for each in chosen:
        median_s = statistics.median(_times(each))
        yield PathRow(
            engine=each.spec.label,
            artifact=each.spec.artifact,
            threads=each.spec.threads,
            median_ms=1e3 * median_s,
            p95_ms=1e3 * float(np.percentile(_times(each), 95)),
            fps=1 / median_s,
            ratio_to_onnxruntime=_ratio(each, baseline),
        )


def peak_rows(peaks: Sequence[Peak]) -> Iterator[PeakRow]:
    """What the machine reached."""
    for peak in peaks:
        yield PeakRow(peak.threads, PRODUCT_FLOP / statistics.median(_times(peak)) / 1e9)


def fastest(rows: Sequence[PeerRow], which: Callable[[PeerRow], bool]) -> PeerRow | None:
    """The row of most faces per second among those wanted; None where there is none."""
    return max(filter(which, rows), key=lambda row: row.even_fps, default=None)


def _added_by_round(case: SessionCase) -> float:
    pairs = ((case.samples[number], bare) for number, bare in case.bare_samples.items())
    return statistics.median(statistics.median(ours) - statistics.median(bare) for ours, bare in pairs)


def _setting(case: SessionCase) -> tuple[int, int]:
    return case.spec.threads, case.turn.batch


def _times(case: BenchmarkCase) -> list[float]:
    return [run for runs in case.samples.values() for run in runs]


def _ratio(case: SessionCase, baseline: SessionCase | None) -> float | None:
    common = baseline is not None and case.samples.keys() & baseline.samples.keys()
    return ratio_by_round(case.samples, baseline.samples) if baseline is not None and common else None
