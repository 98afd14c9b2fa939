"""Several models in memory under a limit: loads are counted, and the least recently used goes first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffedit_backend.method.memory import Footprint, bytes_of
from diffedit_backend.method.model import LoadedModel
from diffedit_backend.models import ModelOptions, device, load_model
from diffedit_backend.models.offload import expected_footprint
from diffedit_backend.models.safety import SafetyChecker
from diffedit_backend.worker import edit_runner
from diffedit_backend.worker.edit_runner import EditRunner
from diffedit_backend.worker.model_cache import MemoryProbe, ModelCache, ModelSource
from diffedit_protocol.blobs import pack_picture
from diffedit_protocol.errors import ModelError
from diffedit_protocol.messages import EditRequest, Progress
from model_files import flagging_checker, parts, write_folder
from tiny_models import tiny_model

SIZE = tiny_model().footprint.on_device


class Auxiliary:
    """What is kept beside the models, as large as one of them while it is there."""

    nbytes = SIZE

    def give_up(self) -> None:
        self.nbytes = 0


class Models:
    """A cache of small models with memory that is counted instead of measured. `way`: how they are offloaded."""

    def __init__(
        self,
        free: int,
        limit: int | None = None,
        expected: int = SIZE,
        auxiliary: Auxiliary | None = None,
        *,
        way: str = "none",
        machine: int = 0,
    ) -> None:
        self.loads: Counter[str] = Counter()
        self._memory, self._machine, self._way = free, machine, way
        wanted = Footprint(expected, 0 if way == "none" else SIZE)
        self.cache = ModelCache(
            ModelSource(self._load, lambda _: wanted),
            MemoryProbe(self._free, self._free_for_waiting, lambda: None),
            1 << 20,
            limit,
            auxiliary,
        )

    def _load(self, name: str) -> LoadedModel:
        self.loads[name] += 1
        return replace(tiny_model(), offload=self._way)

    def _free(self) -> int:
        return self._memory - self.cache.nbytes

    def _free_for_waiting(self) -> int:
        return self._machine - self.cache.waiting_nbytes


def test_a_model_that_is_still_there_is_not_loaded_again() -> None:
    models = Models(free=100 * SIZE)
    first = models.cache.take("a")
    models.cache.take("b")
    assert models.cache.take("a") is first
    assert models.loads == {"a": 1, "b": 1}
    assert models.cache.nbytes == 2 * SIZE


def test_beyond_the_limit_the_least_recently_used_goes() -> None:
    models = Models(free=100 * SIZE, limit=2 * SIZE)
    for name in ("a", "b", "a", "c"):
        models.cache.take(name)
    assert models.cache.names == ("a", "c")
    models.cache.take("a")
    models.cache.take("b")
    assert models.loads == {"a": 1, "b": 2, "c": 1}


def test_where_memory_is_short_room_is_made_before_the_next_model_is_loaded() -> None:
    models = Models(free=int(2.2 * SIZE))
    most = 0
    for name in ("a", "b", "a"):
        models.cache.take(name)
        most = max(most, models.cache.nbytes)
    assert most == SIZE
    assert models.loads == {"a": 2, "b": 1}


def test_a_model_of_unknown_size_obeys_the_limit_once_it_is_loaded() -> None:
    models = Models(free=100 * SIZE, limit=SIZE, expected=0)
    models.cache.take("a")
    models.cache.take("b")
    assert models.cache.names == ("b",)


def test_a_model_larger_than_the_limit_is_kept_while_it_is_used() -> None:
    models = Models(free=100 * SIZE, limit=SIZE // 2)
    assert models.cache.take("a") is models.cache.take("a")
    assert models.loads == {"a": 1}


def test_models_share_one_cache_and_giving_way_empties_it() -> None:
    models = Models(free=100 * SIZE)
    a, b = models.cache.take("a"), models.cache.take("b")
    assert a.cache is b.cache
    a.text("horse")
    assert a.cache.used_bytes > 0
    models.cache.keep_only_newest()
    assert (models.cache.names, a.cache.used_bytes) == (("b",), 0)


def test_an_auxiliary_model_counts_and_goes_before_any_model() -> None:
    auxiliary = Auxiliary()
    models = Models(free=100 * SIZE, limit=3 * SIZE, auxiliary=auxiliary)
    models.cache.take("a")
    models.cache.take("b")
    assert models.cache.nbytes == 3 * SIZE
    models.cache.take("c")
    assert (auxiliary.nbytes, models.cache.names) == (0, ("a", "b", "c"))


def test_an_auxiliary_model_that_is_loaded_drops_the_oldest_models_but_not_the_last() -> None:
    auxiliary = Auxiliary()
    auxiliary.nbytes = 0
    models = Models(free=100 * SIZE, limit=2 * SIZE, auxiliary=auxiliary)
    models.cache.take("a")
    models.cache.take("b")
    auxiliary.nbytes = SIZE
    models.cache.make_space_for_auxiliary()
    assert models.cache.names == ("b",)
    auxiliary.nbytes = 9 * SIZE
    models.cache.make_space_for_auxiliary()
    assert models.cache.names == ("b",)


def test_a_model_of_unknown_size_drops_the_auxiliary_models_once_it_is_loaded() -> None:
    auxiliary = Auxiliary()
    models = Models(free=100 * SIZE, limit=SIZE, expected=0, auxiliary=auxiliary)
    models.cache.take("a")
    assert (auxiliary.nbytes, models.cache.names) == (0, ("a",))


def test_where_memory_is_short_the_auxiliary_models_go_and_with_it_all_that_can() -> None:
    auxiliary = Auxiliary()
    models = Models(free=int(2.2 * SIZE), auxiliary=auxiliary)
    models.cache.take("a")
    assert auxiliary.nbytes == 0
    auxiliary.nbytes = SIZE
    models.cache.keep_only_newest()
    assert (auxiliary.nbytes, models.cache.names) == (0, ("a",))


def test_of_a_model_that_comes_by_networks_only_the_largest_counts_in_the_limit_and_the_rest_waits() -> None:
    largest = bytes_of(tiny_model().denoiser)
    assert 0 < largest < SIZE
    models = Models(free=100 * SIZE, limit=2 * largest, expected=largest, way="model", machine=100 * SIZE)
    models.cache.take("a")
    models.cache.take("b")
    assert (models.cache.nbytes, models.cache.waiting_nbytes) == (2 * largest, 2 * SIZE)
    models.cache.take("a")
    assert models.loads == {"a": 1, "b": 1}
    models.cache.take("c")
    assert models.cache.names == ("a", "c")


def test_models_that_come_by_layers_count_their_largest_layer_only() -> None:
    largest = max(
        sum(tensor.nbytes for tensor in layer.parameters(recurse=False))
        for network in (tiny_model().denoiser, tiny_model().vae, *tiny_model().text_encoders)
        for layer in network.modules()
    )
    models = Models(free=100 * SIZE, limit=3 * largest, expected=0, way="sequential", machine=100 * SIZE)
    for name in ("a", "b", "c", "a"):
        models.cache.take(name)
    assert (models.cache.nbytes, models.cache.waiting_nbytes) == (3 * largest, 3 * SIZE)
    assert models.loads == {"a": 1, "b": 1, "c": 1}


def test_where_the_machines_memory_is_short_the_oldest_model_that_waits_in_it_goes_first() -> None:
    models = Models(free=100 * SIZE, expected=SIZE, way="model", machine=int(3.2 * SIZE))
    for name in ("a", "b", "c"):
        models.cache.take(name)
    assert models.cache.names == ("b", "c")
    assert models.cache.waiting_nbytes == 2 * SIZE


def test_a_safety_checker_counts_in_a_models_footprint(tmp_path: Path) -> None:
    network, processor = flagging_checker()
    checked = replace(tiny_model(), safety=SafetyChecker(network, processor))
    assert checked.footprint == Footprint(SIZE + bytes_of(network))
    assert replace(checked, offload="model").footprint.waiting == SIZE + bytes_of(network)


@pytest.mark.parametrize("family", ["sd1", "xl"])
def test_what_a_model_will_take_is_read_from_its_headers_before_it_is_loaded(family: str, tmp_path: Path) -> None:
    folder, cpu = str(write_folder(tmp_path / family, parts(family))), torch.device("cpu")
    model = load_model(folder, cpu)
    buffers = sum(tensor.nbytes for network in model.networks for tensor in network.buffers())
    assert expected_footprint(folder, ModelOptions(cpu)).on_device == model.footprint.on_device - buffers
    halved = expected_footprint(folder, ModelOptions(cpu, "fp16", "model"))
    assert halved.on_device == bytes_of(model.denoiser) // 2
    assert halved.waiting == (model.footprint.on_device - buffers) // 2
    assert expected_footprint(folder, ModelOptions(cpu, "bf16", "sequential")).on_device == 0
    assert expected_footprint("owner/elsewhere", ModelOptions(cpu)) == Footprint(0)


@pytest.fixture
def two_models(tmp_path: Path) -> dict[str, str]:
    return {name: str(write_folder(tmp_path / name, parts(name))) for name in ("sd1", "xl")}


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each place was loaded by a bench."""
    counted: Counter[str] = Counter()
    real: Callable[..., LoadedModel] = edit_runner.load_model

    def load(place: str, *args: Any, **options: Any) -> LoadedModel:
        counted[Path(place).name] += 1
        return real(place, *args, **options)

    monkeypatch.setattr(edit_runner, "load_model", load)
    return counted


def edit(bench: EditRunner, model: str) -> list[str]:
    """Edit a picture with a model of the bench; the stages that were told."""
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    picture, raw = pack_picture(pixels.tobytes(), 32, 32, 3)
    request = EditRequest(
        "a horse", "a zebra", picture=picture, model=model, quality="draft", strength=0.5, threshold=0.3
    )
    reported: list[str] = []
    done = bench.run(
        request,
        {picture.blob: raw},
        lambda event: reported.append(event.stage) if isinstance(event, Progress) else None,
    )
    assert done.manifest.model == (model or "sd1")
    return reported


def test_a_request_switches_the_model_and_going_back_loads_nothing(
    two_models: dict[str, str], loads: Counter[str]
) -> None:
    bench = EditRunner(two_models, ModelOptions("cpu"), 1 << 24)
    bench.load()
    assert "loading" not in edit(bench, "")
    assert "loading" in edit(bench, "xl")
    assert "loading" not in edit(bench, "sd1")
    assert "loading" not in edit(bench, "xl")
    assert loads == {"sd1": 1, "xl": 1}


def test_under_a_small_limit_only_the_model_in_use_is_kept(two_models: dict[str, str], loads: Counter[str]) -> None:
    bench = EditRunner(two_models, ModelOptions("cpu"), 1 << 24, models_bytes=1)
    for model in ("sd1", "sd1", "xl", "sd1"):
        edit(bench, model)
    assert loads == {"sd1": 2, "xl": 1}


def test_a_model_that_the_owner_did_not_allow_is_refused_with_those_that_are(two_models: dict[str, str]) -> None:
    with pytest.raises(ModelError, match=r"has no model 'flux'\. It has: sd1, xl"):
        edit(EditRunner(two_models, ModelOptions("cpu"), 0), "flux")


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_worker_computes_in_one_thread_for_a_small_model_and_in_several_for_a_large_one(
    two_models: dict[str, str], threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edit_runner, "_MOST_THREADS", 3)
    bench = EditRunner(two_models, ModelOptions("cpu"), 1 << 24, threads=0)
    assert torch.get_num_threads() == 3
    bench.load()
    assert torch.get_num_threads() == 1
    monkeypatch.setattr(device, "_WORTH_SHARING", 0)
    bench.load()
    assert torch.get_num_threads() == 3


def test_a_number_of_threads_that_the_owner_gave_holds_for_every_model(
    two_models: dict[str, str], threads: None
) -> None:
    bench = EditRunner(two_models, ModelOptions("cpu"), 1 << 24, threads=2)
    bench.load()
    assert torch.get_num_threads() == 2
