"""What is claimed of the encoder, and what was measured."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

from benchmarks.encoders import LENGTHS, Figures
from benchmarks.report import Claim

HOST_LIMIT_US = 150
PADDING_LIMIT = 1.10
BATCH_TIMES = {"cpu": 1.5, "cuda": 2.5}
QUERY_TIMES = 1.9
PEAK_SHARE = 0.5
DIFFERENCE_LIMIT = 1e-6


class Measurements:
    """What the worker told, by section."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.figures: dict[str, list[Figures]] = {}
        self.flops: dict[str, float] = {}
        self.agreement: dict[str, dict[str, Any]] = {}
        self.device = "cpu"
        self.dtype = "float32"
        self.peaks: dict[str, float] = {}

    def add(self, event: dict[str, Any]) -> None:
        """Take in one event."""
        self.events.append(event)
        match event["event"]:
            case "machine":
                self.device, self.dtype, self.peaks = event["device"], event["dtype"], event["peaks"]
            case "figures":
                self.figures.setdefault(event["section"], []).append(Figures.read(event))
            case "flops":
                self.flops[event["section"]] = event["a_token"]
            case "agreement":
                self.agreement[event["dtype"]] = event

    def sections(self) -> list[str]:
        """Return the sections that were measured, in their order."""
        return list(self.figures)

    def spent(self, section: str, contender: str, what: Callable[[Figures], float]) -> float | None:
        """Return the median of what the runs of a contender took, the best contender whose name begins so."""
        names = {item.contender for item in self.figures.get(section, ()) if item.contender.startswith(contender)}
        runs = ([what(item) for item in self.figures[section] if item.contender == name] for name in names)
        return min((median(values) for values in runs), default=None)

    def times(self, section: str, ours: str) -> tuple[float, float] | None:
        """Return how many times FlagEmbedding's best ours is as fast: by wall time and by processor time."""
        ratios = []
        for what in (_wall, _cpu):
            mine, theirs = self.spent(section, ours, what), self.spent(section, "FlagEmbedding", what)
            if mine is None or theirs is None:
                return None
            ratios.append(theirs / mine)
        return ratios[0], ratios[1]


def _wall(figures: Figures) -> float:
    return figures.wall


def _cpu(figures: Figures) -> float:
    return figures.cpu


def make_claims(measured: Measurements) -> list[Claim]:
    """Return each claim with its figure."""
    claims = [_host(measured), _padding(measured)]
    dtypes = dict.fromkeys((measured.dtype, "float32")) if measured.device == "cpu" else [measured.dtype]
    wanted = BATCH_TIMES[measured.device]
    for dtype in dtypes:
        claims.append(_times(measured, "batch", dtype, wanted, "batches"))
    for dtype in dtypes:
        claims.append(_times(measured, "query", dtype, QUERY_TIMES, "single queries"))
    claims += [_agreement(measured)]
    for length in LENGTHS:
        section = f"{length} tokens"
        claims.append(_times(measured, section, measured.dtype, BATCH_TIMES["cuda"], section, is_gpu_claim=True))
        claims.append(_share(measured, section))
    claims.append(_share(measured, "batch"))
    return claims


def _host(measured: Measurements) -> Claim:
    text = f"host path at most {HOST_LIMIT_US} µs of processor time a document"
    ours, theirs = (_a_document(measured, name) for name in ("Revops", "FlagEmbedding"))
    if ours is None or theirs is None:
        return Claim(text, "", None)
    return Claim(text, f"{ours:.0f} µs; FlagEmbedding {theirs:.0f} µs, nothing written", ours <= HOST_LIMIT_US)


def _a_document(measured: Measurements, contender: str) -> float | None:
    return measured.spent("host", contender, lambda item: 1e6 * item.cpu / item.documents)


def _padding(measured: Measurements) -> Claim:
    text = f"tokens computed, real ones = 1: at most {PADDING_LIMIT} with a GPU's budget"
    ours, theirs = (
        measured.spent("host", name, lambda item: item.padded / item.tokens) for name in ("Revops", "FlagEmbedding")
    )
    if ours is None or theirs is None:
        return Claim(text, "", None)
    return Claim(text, f"{ours:.3f}; FlagEmbedding {theirs:.3f}, its first batch twice", ours <= PADDING_LIMIT)


def _times(
    measured: Measurements, section: str, dtype: str, wanted: float, what: str, *, is_gpu_claim: bool = False
) -> Claim:
    text = f"{what}, {dtype}: at least {wanted} times FlagEmbedding's best"
    times = measured.times(section, f"Revops, {dtype}")
    if times is None or (is_gpu_claim and measured.device != "cuda"):
        return Claim(f"on a GPU: {text}" if is_gpu_claim else text, "no GPU" if is_gpu_claim else "", None)
    wall, cpu = times
    # On a CPU the processor is the device, and its time tells whatever else runs on the machine.
    judged = wall if measured.device == "cuda" else cpu
    return Claim(text, f"{cpu:.2f} by processor time, {wall:.2f} by wall time", judged >= wanted)


def _agreement(measured: Measurements) -> Claim:
    text = f"dense vectors in float32 differ from FlagEmbedding's by at most {DIFFERENCE_LIMIT:g}"
    exact = measured.agreement.get("float32")
    if exact is None or measured.device != "cpu":
        return Claim(text, "", None)
    others = [f"; {dtype}: cosine at least {event['cosine']:.5f}" for dtype, event in measured.agreement.items()]
    figure = f"{exact['difference']:.1e}" + "".join(others[:-1])
    return Claim(text, figure, exact["difference"] <= DIFFERENCE_LIMIT)


def _share(measured: Measurements, section: str) -> Claim:
    text = f"{section}: at least {PEAK_SHARE:.0%} of the measured matrix peak in {measured.dtype}, on a GPU"
    speed = measured.spent(section, f"Revops, {measured.dtype}", lambda item: item.wall / max(1, item.tokens))
    if speed is None:
        return Claim(text, "no GPU" if measured.device != "cuda" else "", None)
    share = measured.flops[section] / speed / measured.peaks[measured.dtype]
    return Claim(
        text, f"{share:.0%} on this {measured.device}", share >= PEAK_SHARE if measured.device == "cuda" else None
    )
