"""One step of a UNet in every precision and in one thread or all, in turn; and what a precision does to edits."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from statistics import mean, median
from typing import Any

import numpy as np
import torch
from diffedit_backend.editing import edit_picture
from diffedit_backend.method.engine import DiffEditEngine
from diffedit_backend.method.memory import bytes_of
from diffedit_backend.models import ModelOptions, load_model
from diffedit_backend.models.device import PRECISIONS, choose_dtype, computes_bf16, worth_sharing
from diffedit_backend.models.load import quiet_libraries
from diffedit_backend.outcome import EditOutcome, paste
from diffedit_protocol.messages import EditRequest
from tqdm import tqdm

from ..quality.cases import bundled_cases
from ..speed.models import random_unet

_CPU = torch.device("cpu")
_TOKENS = 77
_SAME = 99.0  # dB, reported for two pictures that are equal


@dataclass(frozen=True)
class StepTime:
    """One step of one sample. seconds: on the wall, median and least; processor_seconds: of all cores, the least.

    weights: bytes of the UNet's. chosen: whether a model of this size gets this precision and these threads by default.
    """

    size: str
    precision: str
    threads: int
    seconds: float
    least_seconds: float
    processor_seconds: float
    weights: int
    chosen: bool

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class EditDifference:
    """Edits of the bundled model beside those in fp32. mask_iou: mean and least; psnr: dB of the whole picture, median
    and least. true_iou: of the masks with the scenes' own, (fp32, this precision).
    """

    precision: str
    scenes: int
    mask_iou: tuple[float, float]
    psnr: tuple[float, float]
    true_iou: tuple[float, float]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def processor_name() -> str:
    """Kind, instruction set that torch uses, and whether bf16 is computed or converted."""
    bf16 = "computes bf16" if computes_bf16() else "converts bf16"
    cores = os.cpu_count() or 1
    return f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, {bf16}, {cores} cores"


def time_steps(size: str, precisions: tuple[str, ...], rounds: int) -> list[StepTime]:
    """A step in each precision and each count of threads, timed in turn after one to warm up."""
    quiet_libraries()
    unet = load_model("bundled", ModelOptions(_CPU, "fp32")).denoiser if size == "bundled" else random_unet(size)
    parameters = sum(parameter.numel() for parameter in unet.parameters())
    default = choose_dtype(None, _CPU, parameters)
    cells = unet.config.sample_size**2
    before = torch.get_num_threads()
    counts = sorted({1, before})
    shared = before if worth_sharing(cells, parameters) else 1
    taken: dict[tuple[str, int], list[tuple[float, float]]] = {}
    weights = {}
    try:
        with tqdm(total=len(precisions) * len(counts) * (rounds + 1), unit="step", desc=size) as bar:
            for precision in precisions:  # one copy in memory at a time
                network = unet.to(PRECISIONS[precision]).to(memory_format=torch.channels_last)
                weights[precision] = bytes_of(network)
                for turn in range(rounds + 1):
                    for threads in counts:
                        torch.set_num_threads(threads)
                        seconds = _step(network)
                        bar.update()
                        if turn:
                            taken.setdefault((precision, threads), []).append(seconds)
    finally:
        torch.set_num_threads(before)
    return [
        StepTime(
            size,
            precision,
            threads,
            median(wall for wall, _ in times),
            min(wall for wall, _ in times),
            min(processor for _, processor in times),
            weights[precision],
            PRECISIONS[precision] == default and threads == shared,
        )
        for (precision, threads), times in taken.items()
    ]


@torch.inference_mode()
def _step(unet: Any) -> tuple[float, float]:
    """Seconds on the wall and of the processor."""
    side = unet.config.sample_size
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, unet.config.in_channels, side, side, generator=generator).to(unet.dtype)
    tokens = torch.randn(1, _TOKENS, unet.config.cross_attention_dim, generator=generator).to(unet.dtype)
    wall, processor = time.perf_counter(), time.process_time()
    unet(x.contiguous(memory_format=torch.channels_last), 500, encoder_hidden_states=tokens)
    return time.perf_counter() - wall, time.process_time() - processor


def compare_edits(precision: str, scenes: int) -> EditDifference:
    """Edits of the first cases of `diffedit bench quality`, in this precision and in fp32."""
    exact, halved = (
        DiffEditEngine(load_model("bundled", ModelOptions(_CPU, PRECISIONS[name]))) for name in ("fp32", precision)
    )
    cases = bundled_cases(scenes, 0, exact.model.native_size)
    overlaps, levels, truths = [], [], []
    for case in map(cases.load, tqdm(cases.names, unit="scene", desc=precision)):
        assert case.mask is not None  # every scene of the generator has one
        request = EditRequest(case.source_text, case.target_text)
        first, second = (edit_picture(engine, request, case.source) for engine in (exact, halved))
        overlaps.append(_iou(_found(first), _found(second)))
        levels.append(_psnr(paste(case.source, first), paste(case.source, second)))
        truths.append((_iou(_found(first), case.mask), _iou(_found(second), case.mask)))
    return EditDifference(
        precision,
        scenes,
        (mean(overlaps), min(overlaps)),
        (median(levels), min(levels)),
        (mean(truth for truth, _ in truths), mean(truth for _, truth in truths)),
    )


def _found(outcome: EditOutcome) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.asarray(outcome.mask >= 128)


def _iou(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    """As in `edits.metrics`, whose libraries only the extra [bench] brings."""
    union = (one | other).sum()
    return float((one & other).sum() / union) if union else 1.0


def _psnr(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    error = ((one.astype(np.float64) - other) ** 2).mean()
    return float(10 * np.log10(255**2 / error)) if error else _SAME


def table(processor: str, steps: Sequence[StepTime], edits: Sequence[EditDifference]) -> str:
    """Steps by size, each beside the first row of its size; then the edits. A star marks what is chosen by default."""
    lines = [
        f"{processor}; * is the default",
        "",
        "| model | precision | threads | UNet | step, median | least | beside the first | processor time |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for _, group in groupby(steps, key=lambda row: row.size):
        rows = list(group)
        lines += [_step_row(row, rows[0]) for row in rows]
    if edits:
        lines += [
            "",
            "| bundled model, beside fp32 | scenes | mask IoU, mean | least | picture, median | least | "
            "IoU with the true mask, fp32 | in this precision |",
            "|---|---|---|---|---|---|---|---|",
        ]
    lines += [
        f"| {row.precision} | {row.scenes} | {row.mask_iou[0]:.3f} | {row.mask_iou[1]:.3f} | {row.psnr[0]:.1f} dB | "
        f"{row.psnr[1]:.1f} dB | {row.true_iou[0]:.3f} | {row.true_iou[1]:.3f} |"
        for row in edits
    ]
    return "\n".join(lines)


def _step_row(row: StepTime, first: StepTime) -> str:
    name = f"{row.size} *" if row.chosen else row.size
    return (
        f"| {name} | {row.precision} | {row.threads} | {row.weights / 1e6:.0f} MB | {row.seconds * 1000:.0f} ms | "
        f"{row.least_seconds * 1000:.0f} ms | {row.least_seconds / first.least_seconds:.2f} | "
        f"{row.processor_seconds * 1000:.0f} ms |"
    )
