"""The report of `synergy bench peers`, computed from the samples of the cases."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence

import msgspec

from synergy.benchmarks.accuracy.jitter import JitterReport
from synergy.benchmarks.speed.cases import SessionCase
from synergy.benchmarks.speed.engine_process import BARE, ISOLATED, NETWORK, OVERHEAD, PIPELINE
from synergy.benchmarks.speed.interleave import ratio_by_round
from synergy.benchmarks.speed.latency import Timing
from synergy.benchmarks.speed.peak_flops import PRODUCT_FLOP, PeakCase
from synergy.runtime.diagnostics.host import Host

BASELINE = "onnxruntime"  # of the ratios


class PeerRow(Timing, frozen=True):
    """The network alone, as `latency.Timing`: crops in memory to outputs in memory.

    engine: "onnxruntime (bare)", "openvino bf16 (bare)" and the like are libraries used directly, with the compute
    precision where there is a choice; without "(bare)" it is `FaceAligner.predict` on that engine.
    cold_start_s, rss_mb: with the smallest batch, the same for all batches. ratio_to_onnxruntime: over bare onnxruntime
    with the same threads and batch. gflops: 10^9 operations per second; None where the network's operations are not
    known. share_of_peak: fraction of what a float32 matrix product reached in the same rounds with the same threads
    (bf16 and int8 can exceed 1). even_fps: bare onnxruntime's fps divided by the ratio. Compare rows by it: fps depends
    on which rounds a case took part in, and the load may have differed.
    """

    gflops: float | None = None
    share_of_peak: float | None = None
    even_fps: float = 0.0

    @property
    def is_bare(self) -> bool:
        """Whether it is a library used directly."""
        return self.engine.endswith(BARE)


class OverheadRow(msgspec.Struct, frozen=True):
    """`FaceAligner.predict` compared with the bare session in the same engine, alternating in one process.

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


class PipelineRow(msgspec.Struct, frozen=True):
    """From the bytes of a JPEG with one known box to 68 landmarks in its pixels, one picture at a time; fps: pictures.

    For libraries, a minimal script around the bare session; for engines, `decode_image` and `FaceAligner.align`.
    """

    engine: str
    artifact: str
    threads: int
    median_ms: float
    p95_ms: float
    fps: float
    ratio_to_onnxruntime: float | None


class PeakRow(msgspec.Struct, frozen=True):
    """A float32 matrix product of NumPy on that many threads, in 10^9 operations per second."""

    threads: int
    gflops: float


class PeerReport(msgspec.Struct, frozen=True):
    """The JSON of `synergy bench peers`; its `rows` can be read as those of `BenchReport`.

    network: the backbone. multiply_adds: of the network for one face, counted in the ONNX graph. notes: what is not
    compared here, and how to install it. failures: what was tried and failed.
    """

    host: Host
    network: str
    rows: tuple[PeerRow, ...]
    overhead: tuple[OverheadRow, ...]
    pipeline: tuple[PipelineRow, ...] = msgspec.field(name="path")
    peak: tuple[PeakRow, ...]
    multiply_adds: int | None
    jitter: JitterReport | None
    notes: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()


def network_rows(
    cases: Sequence[SessionCase], peaks: Sequence[PeakCase], multiply_adds: int | None
) -> Iterator[PeerRow]:
    """Bare sessions and `predict`, by threads and batch, each in the order of the cases."""
    chosen = [case for case in cases if case.workload.kind in (NETWORK, OVERHEAD)]
    baselines = {_setting(case): case for case in chosen if case.spec.label == BASELINE + BARE}
    peak_by_threads = {peak.threads: peak for peak in peaks}
    for case in sorted(chosen, key=_setting):
        batch = case.workload.batch
        peak, flop = peak_by_threads.get(case.spec.threads), 2 * (multiply_adds or 0) * batch
        baseline = baselines.get(_setting(case))
        ratio = _ratio(case, baseline)
        even_s = ratio * baseline.median_s if ratio and baseline else case.median_s
        share = ratio_by_round(peak.samples, case.samples) * flop / PRODUCT_FLOP if peak and flop else None
        yield PeerRow(
            engine=case.spec.label,
            artifact=case.spec.artifact,
            device="cpu",
            threads=case.spec.threads,
            batch=batch,
            median_ms=1e3 * case.median_s,
            p95_ms=1e3 * case.p95_s,
            fps=batch / case.median_s,
            cold_start_s=case.cold_start_s,
            rss_mb=case.rss_mb,
            ratio_to_onnxruntime=ratio,
            gflops=flop / case.median_s / 1e9 if flop else None,
            share_of_peak=share,
            even_fps=batch / even_s,
        )


def overhead_rows(cases: Sequence[SessionCase]) -> Iterator[OverheadRow]:
    """`predict` in the process, then in a child process."""
    chosen = [case for case in cases if case.bare_samples]
    for case in sorted(chosen, key=lambda case: case.workload.kind == ISOLATED):
        yield OverheadRow(
            engine=case.spec.label,
            artifact=case.spec.artifact,
            isolated=case.workload.kind == ISOLATED,
            threads=case.spec.threads,
            batch=case.workload.batch,
            predict_ms=1e3 * case.median_s,
            bare_ms=1e3 * statistics.median(run for runs in case.bare_samples.values() for run in runs),
            ratio=ratio_by_round(case.samples, case.bare_samples),
            added_ms=1e3 * _added_by_round(case),
        )


def pipeline_rows(cases: Sequence[SessionCase]) -> Iterator[PipelineRow]:
    """Pictures to landmarks, in the order of the cases."""
    chosen = [case for case in cases if case.workload.kind == PIPELINE]
    baseline = next((case for case in chosen if case.spec.label == BASELINE + BARE), None)
    for case in chosen:
        yield PipelineRow(
            engine=case.spec.label,
            artifact=case.spec.artifact,
            threads=case.spec.threads,
            median_ms=1e3 * case.median_s,
            p95_ms=1e3 * case.p95_s,
            fps=1 / case.median_s,
            ratio_to_onnxruntime=_ratio(case, baseline),
        )


def peak_rows(peaks: Sequence[PeakCase]) -> Iterator[PeakRow]:
    """The peak for each number of threads."""
    for peak in peaks:
        yield PeakRow(peak.threads, PRODUCT_FLOP / peak.median_s / 1e9)


def fastest(rows: Sequence[PeerRow], condition: Callable[[PeerRow], bool]) -> PeerRow | None:
    """The row with the highest `even_fps` among those that meet the condition; None where there is none."""
    return max(filter(condition, rows), key=lambda row: row.even_fps, default=None)


def _added_by_round(case: SessionCase) -> float:
    pairs = ((case.samples[number], bare) for number, bare in case.bare_samples.items())
    return statistics.median(statistics.median(predict) - statistics.median(bare) for predict, bare in pairs)


def _setting(case: SessionCase) -> tuple[int, int]:
    return case.spec.threads, case.workload.batch


def _ratio(case: SessionCase, baseline: SessionCase | None) -> float | None:
    common = baseline is not None and case.samples.keys() & baseline.samples.keys()
    return ratio_by_round(case.samples, baseline.samples) if baseline is not None and common else None
