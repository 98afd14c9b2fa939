"""Who edits: what the benchmark asks of an editor, and what it gets back."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .cases import EditCase, Picture

if TYPE_CHECKING:
    from diffedit_backend.models import LoadedModel

Plane = NDArray[np.uint8]


DEFAULT_RATIO = 0.8  # the encoding ratio that the paper, the library and `EditRequest` start from


@dataclass(frozen=True)
class Edited:
    """One edit. Pictures are (H, W, 3), planes (H, W), all uint8 and of the source's size.

    delivered: the picture that a user gets. decoded: what the decoder made, before anything of the source was pasted
    back; None where there is no decoder. mask: where the edit was allowed. soft_map: the map that the mask was cut
    from; None where a mask is all there is. evaluations: samples through the UNet. seconds: wall time of the edit,
    the model being loaded; cpu_seconds: the process's time on all cores.
    """

    delivered: Picture
    mask: Plane
    soft_map: Plane | None = None
    decoded: Picture | None = None
    evaluations: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0


class Editor(Protocol):
    """Something that edits pictures by words.

    takes_ratio: whether the encoding ratio changes its edits, so that a curve can be drawn over it.
    """

    name: str
    takes_ratio: bool

    def edit(self, case: EditCase, ratio: float) -> Edited:
        """Edit the case at an encoding ratio in (0, 1]."""
        ...


def pasted(case: EditCase, edited: Edited) -> Picture:
    """The decoder's picture laid over the source with the mask: bit for bit the source where the mask is 0."""
    if edited.decoded is None:
        return edited.delivered
    weight = edited.mask[..., None].astype(np.float64) / 255
    return np.rint(case.source + weight * (edited.decoded.astype(np.float64) - case.source)).astype(np.uint8)


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
        unet, decoder = self._model.denoiser, self._model.vae.decoder
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
