"""Does a worker's work: keeps one model's engine on the device and runs edits on it."""

from __future__ import annotations

import gc
import logging
import os
import platform
import time
from collections.abc import Mapping
from typing import Any

import torch
from diffedit_protocol.errors import BadInputError, OutOfMemoryError
from diffedit_protocol.messages import EditRequest, Progress

from ..diffedit.engine import DiffEditEngine
from ..diffedit.steps import Step
from ..editing import edit_picture
from ..models import load_model
from .description import Describer
from .device_errors import is_device_lost, is_out_of_memory
from .loop import DeviceLost, Finished, Tell
from .pace import Pace
from .pixels import finished, picture_of, plane_of, preview_of

log = logging.getLogger(__name__)
STAGES = {"mask": ("encoding", "finding"), "edit": ("encoding", "finding", "inverting", "editing", "decoding")}
PREVIEW_SECONDS = 0.1  # between two previews: more are not seen


class EditBench:
    """`models`: name to path or hub id; the first is the default. `device` None: the best one that is there.

    `captioner`: path or hub id of the model that describes pictures, loaded when it is first asked.
    """

    def __init__(
        self,
        models: Mapping[str, str],
        device: str | None,
        cache_bytes: int,
        *,
        safety: bool = True,
        captioner: str | None = None,
    ) -> None:
        self._models = dict(models)
        self._safety = safety
        self._device = device
        self._cache_bytes = cache_bytes
        self._name = ""
        self._engine: DiffEditEngine | None = None
        self._pace = Pace()
        self._describer = Describer(captioner, device)

    @classmethod
    def from_configuration(cls, fields: Mapping[str, Any]) -> EditBench:
        device = fields["device"]
        # One core is left to Krita and the server: a thread that waits for its core holds up the others at every layer.
        torch.set_num_threads(fields["threads"] or max(1, (os.cpu_count() or 2) - 1))
        return cls(
            fields["models"],
            None if device == "auto" else device,
            fields["cache_bytes"],
            safety=fields.get("safety", True),
            captioner=fields.get("captioner"),
        )

    def load(self) -> dict[str, Any]:
        engine = self._engine_for("")
        return {"device": str(engine.model.device), "device_name": _device_name(engine.model.device), **self.gauge()}

    def gauge(self) -> dict[str, Any]:
        if self._engine is None or self._engine.model.device.type != "cuda":
            return {"device_memory": 0}
        return {"device_memory": torch.cuda.memory_allocated(self._engine.model.device)}

    def run(self, request: EditRequest, blobs: Mapping[str, bytes], tell: Tell) -> Finished:
        try:
            return self._edit(request, blobs, tell)
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
            return self._edit(request, blobs, tell)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            told = error if isinstance(error, OutOfMemoryError) else _too_large(request, error)
        self._free()
        raise told

    def _edit(self, request: EditRequest, blobs: Mapping[str, bytes], tell: Tell) -> Finished:
        if request.picture is None:
            raise BadInputError("The request names no picture.")
        if request.task == "describe":
            return self._describer.run(request, request.picture, blobs, tell)
        if request.model not in ("", self._name):
            tell(Progress("loading", 0, 1))
        engine = self._engine_for(request.model)
        pace = self._pace.watch(_kind(request), STAGES[request.task])
        shown = 0.0

        def on_step(step: Step) -> None:
            nonlocal shown
            tell(Progress(step.stage, step.step, step.total, pace.step(step.stage, step.step, step.total)))
            if step.preview is not None and request.preview and time.monotonic() - shown >= PREVIEW_SECONDS:
                shown = time.monotonic()
                tell(preview_of(step.preview))

        outcome = edit_picture(
            engine,
            request,
            picture_of(request.picture, blobs),
            selection=plane_of(request.selection, blobs),
            mask=plane_of(request.mask, blobs),
            on_step=on_step,
        )
        return finished(outcome, self._name)

    def _engine_for(self, name: str) -> DiffEditEngine:
        """The engine of a model; the one before gives its memory back first."""
        name = name or next(iter(self._models))
        if self._engine is None or name != self._name:
            self._engine = None
            gc.collect()
            _give_back()
            self._engine = DiffEditEngine(
                load_model(self._models[name], self._device, safety=self._safety), self._cache_bytes
            )
            self._name = name
        return self._engine

    def _free(self) -> None:
        if self._engine is not None:
            self._engine.cache.clear()
        gc.collect()
        _give_back()


def _too_large(request: EditRequest, error: Exception) -> OutOfMemoryError:
    assert request.picture is not None
    return OutOfMemoryError(
        f"The memory was too small at {request.picture.width} × {request.picture.height}. "
        "A selection, or the draft quality, needs less.",
        detail=str(error),
    )


def _give_back() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _kind(request: EditRequest) -> str:
    """What makes edits take equally long; a picture's size does not, as each is brought to the model's."""
    own_mask = request.mask is not None
    return f"{request.task}:{request.method}:{request.quality}:{request.variations}:{request.strength}:{own_mask}"


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads" if device.type == "cpu" else device.type
