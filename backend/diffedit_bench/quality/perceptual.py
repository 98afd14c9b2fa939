"""The figures of PIE-Bench that need other people's weights: structure distance (DINO), LPIPS, CLIP score.

Weights are taken from the local cache of the hub they come from; they are downloaded only where that is asked for. A
figure whose weights are missing is not run, and the report says why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate, mse_loss

from .cases import Picture

DINO, CLIP = "facebook/dino-vitb8", "openai/clip-vit-large-patch14"
_SQUEEZENET = "squeezenet1_1-b8a52dc0.pth"  # in torch hub's folder of checkpoints
_DINO_SIDE, _DINO_LONGEST = 224, 480  # px
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

T = TypeVar("T")


@dataclass(frozen=True)
class Perceptual:
    """Figures as functions, or None with the reason in `missing`.

    structure: two pictures (H, W, 3) uint8. lpips: two (H, W, 3) float32 in [0, 1]. clip: a picture uint8 and a text.
    """

    structure: Callable[[Picture, Picture], float] | None = None
    lpips: Callable[[NDArray[np.float32], NDArray[np.float32]], float] | None = None
    clip: Callable[[Picture, str], float] | None = None
    missing: dict[str, str] = field(default_factory=dict)


def load_perceptual(device: torch.device, fetch: bool) -> Perceptual:
    """Load what is in the caches or, with `fetch`, can be downloaded."""
    missing: dict[str, str] = {}

    def attempt(name: str, load: Callable[[torch.device, bool], T]) -> T | None:
        try:
            return load(device, fetch)
        except (OSError, ImportError) as error:
            missing[name] = f"not run: {_first_line(error)}"
            return None

    return Perceptual(
        attempt("structure", _load_structure), attempt("lpips", _load_lpips), attempt("clip", _load_clip), missing
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _from_hub(loader: Any, name: str, fetch: bool, **options: Any) -> Any:
    try:
        return loader.from_pretrained(name, local_files_only=not fetch, **options)
    except OSError as error:
        raise OSError(f"weights missing ({name} is not in the hub's cache; --fetch-weights downloads it)") from error


def _load_structure(device: torch.device, fetch: bool) -> Callable[[Picture, Picture], float]:
    from transformers import ViTModel

    network = _from_hub(ViTModel, DINO, fetch, add_pooling_layer=False).to(device).eval()
    return lambda picture, other: structure_distance(network, picture, other)


def _load_clip(device: torch.device, fetch: bool) -> Callable[[Picture, str], float]:
    from transformers import CLIPModel, CLIPProcessor

    processor = _from_hub(CLIPProcessor, CLIP, fetch)
    network = _from_hub(CLIPModel, CLIP, fetch).to(device).eval()
    return lambda picture, text: clip_score(network, processor, picture, text)


def _load_lpips(device: torch.device, fetch: bool) -> Callable[[NDArray[np.float32], NDArray[np.float32]], float]:
    try:
        import torchvision  # noqa: F401  its SqueezeNet is LPIPS's backbone
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
    except ImportError as error:
        raise ImportError("torchmetrics and torchvision are not installed") from error
    if not fetch and not (Path(torch.hub.get_dir()) / "checkpoints" / _SQUEEZENET).is_file():
        raise OSError(f"weights missing ({_SQUEEZENET} is not in torch hub's cache; --fetch-weights downloads it)")
    metric = LearnedPerceptualImagePatchSimilarity(net_type="squeeze").to(device)

    def lpips(picture: NDArray[np.float32], other: NDArray[np.float32]) -> float:
        first, second = (torch.from_numpy(p).permute(2, 0, 1)[None].to(device) * 2 - 1 for p in (picture, other))
        with torch.no_grad():
            return float(metric(first, second))

    return lpips


@torch.no_grad()
def structure_distance(network: Any, picture: Picture, other: Picture) -> float:
    """Mean squared difference of the self-similarities of DINO's last keys (Tumanyan et al., arXiv 2201.00424).

    Like the published evaluation, it normalises pictures in 0..255 with the means and deviations of 0..1, and makes
    them smaller without averaging (torchvision 0.13's Resize on tensors).
    """
    first, second = (_self_similarity(network, _dino_input(p).to(network.device)) for p in (picture, other))
    return float(mse_loss(first, second))


def _dino_input(picture: Picture) -> Tensor:
    """(1, 3, h, w), the shorter side 224 px, the longer at most 480."""
    height, width = picture.shape[:2]
    shorter, longer = _DINO_SIDE, _DINO_SIDE * max(height, width) // min(height, width)
    if longer > _DINO_LONGEST:
        shorter, longer = _DINO_LONGEST * shorter // longer, _DINO_LONGEST
    size = (longer, shorter) if height > width else (shorter, longer)
    pixels = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float()
    pixels = interpolate(pixels, size, mode="bilinear", antialias=False)
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in (_IMAGENET_MEAN, _IMAGENET_STD))
    return (pixels - mean) / deviation


def _self_similarity(network: Any, pixels: Tensor) -> Tensor:
    """Cosines (T, T) between the last layer's keys of all tokens, heads side by side."""
    keys: list[Tensor] = []
    # Named "key" up to transformers 4 and "k_proj" after it.
    layers = [layer for name, layer in network.named_modules() if name.rpartition(".")[2] in ("key", "k_proj")]
    hook = layers[-1].register_forward_hook(lambda _layer, _inputs, output: keys.append(output))
    try:
        network(pixels, interpolate_pos_encoding=True)
    finally:
        hook.remove()
    tokens = keys[0][0]
    lengths = tokens.norm(dim=1, keepdim=True)
    cosines: Tensor = tokens @ tokens.T / (lengths @ lengths.T).clamp(min=1e-8)
    return cosines


@torch.no_grad()
def clip_score(network: Any, processor: Any, picture: Picture, text: str) -> float:
    """100 times the cosine between picture and text, at least 0 (torchmetrics' CLIPScore, which cuts long texts
    bluntly).
    """
    words = processor.tokenizer([text], return_tensors="pt", padding=True)
    length = network.config.text_config.max_position_embeddings
    output = network(
        input_ids=words["input_ids"][:, :length].to(network.device),
        attention_mask=words["attention_mask"][:, :length].to(network.device),
        pixel_values=processor.image_processor(picture, return_tensors="pt")["pixel_values"].to(network.device),
    )
    cosine = torch.nn.functional.cosine_similarity(output.image_embeds, output.text_embeds)
    return max(0.0, 100 * float(cosine))
