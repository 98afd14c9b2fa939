"""What is read off the networks themselves while an editor works, so that every editor is measured alike."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from diffedit_backend.models import LoadedModel


class Instruments:
    """A context in which the model's networks are watched.

    evaluations: samples that went through the UNet. decoded: the picture that the VAE decoded last, (h, w, 3) uint8,
    or None. seconds: wall time in the context.
    """

    def __init__(self, model: LoadedModel) -> None:
        self.evaluations = 0
        self.decoded: NDArray[np.uint8] | None = None
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        self._model = model
        self._started = (0.0, 0.0)
        self._hooks: list[Any] = []

    def __enter__(self) -> Instruments:
        unet, decoder = self._model.unet, self._model.vae.decoder
        self._hooks = [
            unet.register_forward_pre_hook(self._count, with_kwargs=True),
            decoder.register_forward_hook(self._keep),
        ]
        self._started = (time.perf_counter(), time.process_time())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds = time.perf_counter() - self._started[0]
        self.cpu_seconds = time.process_time() - self._started[1]
        for hook in self._hooks:
            hook.remove()

    def _count(self, _unet: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.evaluations += len(args[0] if args else kwargs["sample"])

    def _keep(self, _decoder: Any, _args: Any, output: Any) -> None:
        picture = (output[0].detach().float() * 127.5 + 127.5).round().clamp(0, 255)
        self.decoded = picture.byte().permute(1, 2, 0).cpu().numpy()
