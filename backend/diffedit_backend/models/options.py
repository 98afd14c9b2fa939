"""How a model is loaded: one value from the command line, through the worker's configuration, to `load_model`.

Nothing here needs torch: the server, which has none, passes it on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

    from ..method.model import Offload

Precision = Literal["fp32", "fp16", "bf16"]


@dataclass(frozen=True)
class ModelOptions:
    """What the owner of a backend may decide about its models; None leaves the choice to the program.

    device: "cpu", "cuda", "cuda:1", "mps" or a torch device; None: the best one here.
    precision: "fp32", "fp16", "bf16" or a torch dtype; None: by device and size.
    offload: "none", "model" or "sequential" (see `offload`); None: by the free memory of the device.
    vae_tiles: tiles along a picture's longer side for the autoencoder, 1, 2, 4 or 8; None: by the free memory.
    compiled: compile the denoising network; every new shape is slow once.
    safety: use the safety checker of a model that has one.
    vae: another autoencoder, for every model: a name in the folder for them, a folder, a .safetensors file; None: what
    `diffedit.json` or a file beside the model says, else the model's own.
    """

    device: str | torch.device | None = None
    precision: Precision | torch.dtype | None = None
    offload: Offload | None = None
    vae_tiles: int | None = None
    compiled: bool = False
    safety: bool = True
    vae: str | None = None

    def to_fields(self) -> dict[str, Any]:
        """As plain values for a worker's configuration; torch's own objects are none of them."""
        return asdict(self)

    @classmethod
    def from_fields(cls, values: Mapping[str, Any]) -> ModelOptions:
        """What `to_fields` made; names that this version does not know are left out."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})
