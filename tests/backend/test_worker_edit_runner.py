"""What a worker does around an edit: errors of the device, pixels in and out, the time that is left."""

from __future__ import annotations

import time
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffedit_backend.method.engine import DiffEditEngine
from diffedit_backend.models import ModelOptions
from diffedit_backend.outcome import Edit, EditOutcome, EditWarning
from diffedit_backend.worker import edit_runner
from diffedit_backend.worker.edit_runner import EditRunner
from diffedit_backend.worker.eta_estimator import EtaEstimator
from diffedit_backend.worker.loop import DeviceLost, Finished
from diffedit_backend.worker.pixels import finished, picture_of, plane_of, preview_of
from diffedit_protocol.blobs import blob_id, pack_picture, pack_plane, unpack_plane
from diffedit_protocol.errors import ModelError, OutOfMemoryError, SchemaError
from diffedit_protocol.events import MAX_PREVIEW_SIDE
from diffedit_protocol.messages import STAGES, Bounds, EditRequest, PictureRef, PlaneRef
from tiny_models import tiny_model

OUTCOME = EditOutcome(np.full((8, 8), 255, np.uint8), None, 0.5, Bounds(0, 0, 8, 8))
OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: not enough memory"),
    RuntimeError("MPS backend out of memory"),
    OutOfMemoryError("The GPU ran out of memory at 8 × 8. A selection needs less."),
    MemoryError(),
]
LOST = [
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    torch.AcceleratorError("CUDA error: unspecified launch failure", 719)
    if hasattr(torch, "AcceleratorError")
    else RuntimeError("HIP error: unspecified launch failure"),
]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> EditRunner:
    bench = EditRunner({"bundled": "bundled"}, ModelOptions("cpu"), 0)
    bench._cache._engines["bundled"] = DiffEditEngine(tiny_model())
    bench._cache._engines["bundled"].cache = bench._cache.cache
    bench._cache.cache.max_bytes = 1000
    bench._cache.cache.get(("kept",), lambda: torch.zeros(8))
    return bench


def failing(errors: list[BaseException]) -> Callable[..., EditOutcome]:
    """An edit that raises each of `errors` in turn and then works."""
    left = list(errors)

    def edit_picture(*_: Any, **__: Any) -> EditOutcome:
        if left:
            raise left.pop(0)
        return OUTCOME

    return edit_picture


def run(bench: EditRunner) -> Finished:
    picture, raw = pack_picture(bytes(8 * 8 * 3), 8, 8, 3)
    return bench.run(EditRequest("a", "b", picture=picture), {picture.blob: raw}, lambda _: None)


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: str(error)[:20])
def test_out_of_memory_once_frees_the_cache_and_tries_again(
    bench: EditRunner, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edit_runner, "edit_picture", failing([error]))
    assert run(bench).manifest.bounds == Bounds(0, 0, 8, 8)
    assert ("kept",) not in bench._cache.cache


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: str(error)[:20])
def test_out_of_memory_twice_is_the_artists_error_and_the_next_job_works(
    bench: EditRunner, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edit_runner, "edit_picture", failing([error, error]))
    with pytest.raises(OutOfMemoryError, match=r"memory.* at 8 × 8\. "):
        run(bench)
    assert run(bench)


@pytest.mark.parametrize("error", LOST, ids=lambda error: str(error)[:20])
def test_any_other_error_of_the_device_asks_for_a_new_process(
    bench: EditRunner, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edit_runner, "edit_picture", failing([error]))
    with pytest.raises(DeviceLost, match="error"):
        run(bench)


def test_a_mistake_that_has_nothing_to_do_with_the_device_passes_through(
    bench: EditRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        edit_runner, "edit_picture", failing([RuntimeError("mat1 and mat2 shapes cannot be multiplied")])
    )
    with pytest.raises(RuntimeError, match="mat1"):
        run(bench)


def test_a_model_that_is_not_there_is_a_model_error() -> None:
    bench = EditRunner({"gone": "/no/such/folder"}, ModelOptions("cpu"), 0)
    with pytest.raises(ModelError, match="no model '/no/such/folder'"):
        bench.load()


def test_pixels_come_out_of_their_blobs_as_they_went_in() -> None:
    picture = np.random.default_rng(1).integers(0, 256, (5, 7, 4), np.uint8)
    ref, raw = pack_picture(picture.tobytes(), 7, 5, 4)
    assert (picture_of(ref, {ref.blob: raw}) == picture).all()
    plane_ref, packed = pack_plane(picture[..., 0].tobytes(), 7, 5)
    plane = plane_of(plane_ref, {plane_ref.blob: packed})
    assert plane is not None
    assert (plane == picture[..., 0]).all()
    assert plane_of(None, {}) is None


def test_a_picture_whose_blob_has_another_length_is_refused() -> None:
    with pytest.raises(SchemaError, match="has 300 bytes, not 10"):
        picture_of(PictureRef(blob_id(b""), 10, 10, 3), {blob_id(b""): bytes(10)})


def test_a_plane_that_is_a_decompression_bomb_is_refused_without_being_unpacked() -> None:
    bomb = zlib.compress(bytes(100 << 20), 1)
    tracemalloc.start()
    try:
        with pytest.raises(SchemaError, match="does not hold the 256 bytes"):
            plane_of(PlaneRef(blob_id(b""), 16, 16), {blob_id(b""): bomb})
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


def test_a_result_names_every_blob_that_it_leaves() -> None:
    rng = np.random.default_rng(2)
    mask, soft_map = rng.integers(0, 256, (2, 6, 9), np.uint8)
    pixels = rng.integers(0, 256, (3, 4, 4), np.uint8)
    outcome = EditOutcome(
        mask,
        soft_map,
        0.4,
        Bounds(1, 2, 4, 3),
        (Edit(7, pixels),),
        12,
        {"editing": 1.5},
        (EditWarning("X", "Something."),),
    )
    result = finished(outcome, "bundled")
    manifest = result.manifest
    assert manifest.soft_map is not None
    assert set(result.blobs) == {manifest.mask.blob, manifest.soft_map.blob, manifest.edits[0].pixels.blob}
    assert all(blob_id(data) == blob for blob, data in result.blobs.items())
    assert unpack_plane(manifest.soft_map, result.blobs[manifest.soft_map.blob]) == soft_map.tobytes()
    assert result.blobs[manifest.edits[0].pixels.blob] == pixels.tobytes()
    assert (manifest.model, manifest.notes, manifest.bounds) == ("bundled", (("X", "Something."),), Bounds(1, 2, 4, 3))


@pytest.mark.parametrize("shape", [(10, 20, 3), (769, 100, 3), (3000, 5000, 3)])
def test_a_preview_is_small_enough_to_travel(shape: tuple[int, int, int]) -> None:
    preview = preview_of(np.zeros(shape, np.uint8))
    assert max(preview.width, preview.height) <= MAX_PREVIEW_SIDE
    assert len(preview.rgb) == preview.width * preview.height * 3
    assert abs(preview.width / preview.height - shape[1] / shape[0]) < 0.02 * shape[1] / shape[0]


def test_the_time_that_is_left_is_told_from_the_second_job_of_a_kind_on(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    pace = EtaEstimator()

    def job() -> list[float | None]:
        watch = pace.watch("edit", ("finding", "editing"))
        left = []
        for stage, total, seconds in (("finding", 2, 1.0), ("editing", 4, 0.5)):
            for step in range(1, total + 1):
                clock[0] += seconds
                left.append(watch.step(stage, step, total))
        return left

    first, second = job(), job()
    assert first[:2] == [None, None]  # nothing is known of "editing" yet
    assert first[2:] == second[2:] == [1.5, 1.0, 0.5, 0.0]
    assert second[:2] == [1.0 + 2.0, 2.0]


def test_a_stage_that_begins_does_not_guess_the_time_that_is_left_and_counts_from_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    watch = EtaEstimator().watch("mask", ("finding", "edges"))
    clock[0] = 3.0
    watch.step("finding", 1, 1)
    assert watch.step("edges", 0, 2) is None
    clock[0] = 5.0
    assert watch.step("edges", 1, 2) == 2.0


@pytest.mark.parametrize("matting", [False, True])
def test_edges_are_a_stage_of_a_job_that_asks_for_them(
    bench: EditRunner, matting: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = []
    monkeypatch.setattr(edit_runner, "edit_picture", lambda *_, **__: OUTCOME)
    monkeypatch.setattr(bench._eta, "watch", lambda kind, stages: watched.append((kind, stages)))
    picture, raw = pack_picture(bytes(8 * 8 * 3), 8, 8, 3)
    for task in ("mask", "edit"):
        request = EditRequest("a", "b", task, picture=picture, matting=matting)
        bench.run(request, {picture.blob: raw}, lambda _: None)
    (mask, mask_stages), (edit, edit_stages) = watched
    assert mask_stages == ("encoding", "finding", "edges")[: 2 + matting]
    assert [stage for stage in STAGES if stage in edit_stages] == list(edit_stages)
    assert ("edges" in edit_stages) == matting
    assert mask.endswith(str(matting))
    assert edit.endswith(str(matting))


@pytest.mark.parametrize("installed", [False, True])
def test_a_worker_tells_whether_it_can_matte(
    bench: EditRunner, installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if installed else None)
    assert bench.load()["mattes"] is installed
