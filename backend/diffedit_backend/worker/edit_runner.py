"""Does a worker's work: keeps models on the device, as many as fit, and runs edits on them."""

from __future__ import annotations

import logging
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from diffedit_protocol.errors import BadInputError, ModelError, OutOfMemoryError
from diffedit_protocol.messages import EditRequest, Progress

from ..editing import edit_picture
from ..imaging.matting import has_matting
from ..method.engine import DiffEditEngine
from ..method.memory import DeviceMemoryError, Footprint, free_memory_on, give_back
from ..method.steps import Step
from ..models import LoadedModel, ModelOptions, load_model
from ..models.adapters import release_adapters
from ..models.device import choose_device, use_threads
from ..models.offload import expected_footprint
from .auxiliary_models import NO_AUXILIARY, AuxiliaryNames, Captioner, PromptSuggester, WordSegmenter
from .eta_estimator import EtaEstimator
from .loop import DeviceLost, Finished, ReportStep
from .model_cache import AuxiliaryModels, MemoryProbe, ModelCache, ModelSource
from .pixels import finished, picture_of, plane_of, preview_of

# Any CUDA error but out of memory leaves the context unusable (pytorch issues 44624, 17425). Newer versions of torch
# have a class for them; older ones a RuntimeError that holds one of these.
_LOST = ("CUDA error", "HIP error", "cuDNN error", "CUBLAS_STATUS", "device-side assert")
_NO_MEMORY = ("not enough memory", "out of memory")  # the CPU's allocator and Apple's have no class of their own


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device, or this machine, had too little memory."""
    if isinstance(error, (torch.OutOfMemoryError, DeviceMemoryError, OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(mark in str(error) for mark in _NO_MEMORY)


def is_device_lost(error: BaseException) -> bool:
    """Whether this process can use its device no more. Ask `is_out_of_memory` first."""
    accelerator_error = getattr(torch, "AcceleratorError", None)
    if accelerator_error is not None and isinstance(error, accelerator_error):
        return True
    return isinstance(error, RuntimeError) and any(mark in str(error) for mark in _LOST)


log = logging.getLogger(__name__)
STAGES = {"mask": ("encoding", "finding"), "edit": ("encoding", "finding", "inverting", "editing", "decoding")}
EDGES = "edges"  # a stage of its own, after "finding", when matting is asked for
_MACHINE = torch.device("cpu")
# One core is left to Krita and the server: a thread that waits for its core holds up the others at every layer.
_MOST_THREADS = max(1, (os.cpu_count() or 2) - 1)
PREVIEW_SECONDS = 0.1  # between two previews: more are not seen


class EditRunner:
    """`models`: name to path or hub id; the first is the default. `options`: for each of them.

    auxiliary: the models beside them, loaded when they are first asked.
    models_bytes: limit of what weights take of the device, None for what fits. threads: of the CPU, in this process: a
    number; 0 chooses by the model in use; None leaves them be.
    """

    def __init__(
        self,
        models: Mapping[str, str],
        options: ModelOptions,
        cache_bytes: int,
        *,
        auxiliary: AuxiliaryNames = NO_AUXILIARY,
        models_bytes: int | None = None,
        threads: int | None = None,
    ) -> None:
        self._models = dict(models)
        self._options = options
        device = None if options.device is None else str(options.device)
        self._threads = threads
        if threads is not None:
            torch.set_num_threads(threads or _MOST_THREADS)
        self._eta = EtaEstimator()
        self._captioner = Captioner(auxiliary.captioner, device)
        self._suggester = PromptSuggester(auxiliary.suggester, device)
        self._segmenter = WordSegmenter(auxiliary.segmenter, device)
        self._cache = ModelCache(
            ModelSource(self._load, self._expected),
            MemoryProbe(
                self._free_bytes,
                lambda: free_memory_on(_MACHINE),
                lambda: give_back(choose_device(options.device)),
            ),
            cache_bytes,
            models_bytes,
            AuxiliaryModels(self._captioner, self._suggester, self._segmenter),
        )

    @classmethod
    def from_configuration(cls, fields: Mapping[str, Any]) -> EditRunner:
        device = fields["device"]
        options = ModelOptions.from_fields(fields.get("model_options", {}))
        return cls(
            fields["models"],
            replace(options, device=None if device == "auto" else device),
            fields["cache_bytes"],
            auxiliary=AuxiliaryNames(*map(fields.get, ("captioner", "suggester", "segmenter"))),
            models_bytes=fields.get("models_bytes"),
            threads=fields["threads"],
        )

    def load(self) -> dict[str, Any]:
        engine = self._engine_for("")
        device = engine.model.device
        return {"device": str(device), "device_name": _device_name(device), "mattes": has_matting(), **self.usage()}

    def usage(self) -> dict[str, Any]:
        device = choose_device(self._options.device)
        return {"device_memory": torch.cuda.memory_allocated(device) if device.type == "cuda" else 0}

    def run(self, request: EditRequest, blobs: Mapping[str, bytes], report: ReportStep) -> Finished:
        try:
            return self._edit(request, blobs, report)
        except Exception as error:
            if is_out_of_memory(error):
                log.warning("out of memory, trying again with nothing cached: %s", error)
            elif is_device_lost(error):
                raise DeviceLost(str(error)) from error
            else:
                raise
        # Outside of the handler, whose exception holds the tensors of the attempt that failed. The network itself has
        # tried a smaller batch already; now everything that was kept is given up as well.
        self._free()
        try:
            return self._edit(request, blobs, report)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            failure = error if isinstance(error, OutOfMemoryError) else _too_large(request, error)
        self._free()
        raise failure

    def _edit(self, request: EditRequest, blobs: Mapping[str, bytes], report: ReportStep) -> Finished:
        if request.task == "suggest":
            done = self._suggester.run(request, report)
            self._cache.make_space_for_auxiliary()
            return done
        if request.picture is None:
            raise BadInputError("The request names no picture.")
        if request.task == "describe":
            done = self._captioner.run(request, request.picture, blobs, report)
            self._cache.make_space_for_auxiliary()
            return done
        name = request.model or next(iter(self._models))
        if name in self._models and name not in self._cache:
            report(Progress("loading", 0, 1))
        engine = self._engine_for(name)
        timer = self._eta.watch(_kind(request), _stages(request))
        shown = 0.0

        def on_step(step: Step) -> None:
            nonlocal shown
            report(Progress(step.stage, step.step, step.total, timer.step(step.stage, step.step, step.total)))
            if step.preview is not None and request.preview and time.monotonic() - shown >= PREVIEW_SECONDS:
                shown = time.monotonic()
                report(preview_of(step.preview))

        picture = picture_of(request.picture, blobs)
        segmentation = self._segmenter.run(request, picture, report)
        if segmentation is not None:
            self._cache.make_space_for_auxiliary()
        outcome = edit_picture(
            engine,
            request,
            picture,
            selection=plane_of(request.selection, blobs),
            mask=plane_of(request.mask, blobs),
            segmentation=segmentation,
            on_step=on_step,
        )
        return finished(outcome, name)

    def _engine_for(self, name: str) -> DiffEditEngine:
        """The engine of a model, "" for the default. Raises ModelError for one that the owner did not allow."""
        name = name or next(iter(self._models))
        if name not in self._models:
            raise ModelError(f"The backend has no model {name!r:.80}. It has: {', '.join(self._models)}.")
        engine = self._cache.take(name)
        if self._threads == 0:
            use_threads(engine.model, _MOST_THREADS)
        return engine

    def _load(self, name: str) -> LoadedModel:
        return load_model(self._models[name], self._options)

    def _expected(self, name: str) -> Footprint:
        return expected_footprint(self._models[name], self._options)

    def _free_bytes(self) -> int:
        return free_memory_on(choose_device(self._options.device))

    def _free(self) -> None:
        self._cache.keep_only_newest()
        for name in self._cache.names:
            release_adapters(self._cache.take(name).model)


def _too_large(request: EditRequest, error: Exception) -> OutOfMemoryError:
    if request.picture is None:
        return OutOfMemoryError("The memory was too small for the model that suggests words.", detail=str(error))
    return OutOfMemoryError(
        f"The memory was too small at {request.picture.width} × {request.picture.height}. "
        "A selection, or the draft quality, needs less.",
        detail=str(error),
    )


def _stages(request: EditRequest) -> tuple[str, ...]:
    """What a job goes through, in this order."""
    before, after = STAGES[request.task][:2], STAGES[request.task][2:]
    return (*before, *((EDGES,) if request.matting else ()), *after)


def _kind(request: EditRequest) -> str:
    """What makes edits take equally long; a picture's size does so for detail and edges only, else the model's does."""
    own_mask = request.mask is not None
    length = f"{request.variations}:{request.strength}:{own_mask}:{request.detail}:{request.matting}"
    return f"{request.task}:{request.method}:{request.quality}:{length}"


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return device.type
    threads = torch.get_num_threads()
    return f"{platform.machine()} CPU, {threads} thread{'s' if threads > 1 else ''}"
