"""What callers of `DiffEditPipeline` may pass: prompts, pictures and masks in any of their forms, checked and made
tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
import torch
from diffusers.image_processor import VaeImageProcessor
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d, interpolate

from .text import Texts

# From here on a mask says "edit".
MASKED = 0.5


def check_fraction(name: str, value: Any) -> float:
    """`value` as a number in [0, 1]; ValueError for anything else."""
    if value is None or not 0 <= value <= 1:
        raise ValueError(f"`{name}` must be in [0.0, 1.0], but is {value!r}.")
    return float(value)


def check_count(name: str, value: Any) -> int:
    """`value` as a whole number above 0; ValueError for anything else."""
    if not isinstance(value, int) or value <= 0:
        raise ValueError(f"`{name}` must be a positive integer, but is {value!r} of type {type(value).__name__}.")
    return value


def check_numbers(result: Tensor) -> None:
    """Raises ValueError for a result that holds infinite values or none at all, which would be shown as black."""
    if not torch.isfinite(result).all():
        raise ValueError(
            f"The result holds values that are no numbers, computed in {result.dtype}: the weights are damaged, or too"
            " large for this precision. Load the pipeline in torch.float32."
        )


def check_texts(name: str, texts: Texts, needed: bool = True) -> None:
    """Raises ValueError unless a text and its negative are each given once at most, as text or as embeddings.

    name: of the text argument, "prompt" or "source_prompt". needed: whether it must be given at all.
    """
    negative_name = name.replace("prompt", "negative_prompt")
    prompt, embeds = texts.prompt, texts.embeds
    if prompt is not None and embeds is not None:
        raise ValueError(f"Pass either `{name}` or `{name}_embeds`, not both: `{name}` is {prompt!r}.")
    if needed and prompt is None and embeds is None:
        raise ValueError(f"Pass `{name}` or `{name}_embeds`: both are undefined.")
    if prompt is not None and not isinstance(prompt, (str, list)):
        raise ValueError(f"`{name}` must be a str or a list, but is {type(prompt).__name__}.")
    if texts.negative is not None and texts.negative_embeds is not None:
        raise ValueError(
            f"Pass either `{negative_name}` or `{negative_name}_embeds`, not both: the first is {texts.negative!r}."
        )
    if embeds is not None and texts.negative_embeds is not None and embeds.shape != texts.negative_embeds.shape:
        raise ValueError(
            f"`{name}_embeds` and `{negative_name}_embeds` must have the same shape, but have {tuple(embeds.shape)} and"
            f" {tuple(texts.negative_embeds.shape)}."
        )


@dataclass(frozen=True)
class Pictures:
    """Pictures ready for the VAE, or latents that were passed in their place.

    scaled: (B, 3, h * f, w * f) in [-1, 1], sides rounded down to the VAE's factor f, or latents (B, C, h, w).
    original: (B, 3, H, W) float32 in [0, 1] at the size they came in; None for latents.
    """

    scaled: Tensor
    original: Tensor | None

    def size(self, factor: int) -> tuple[int, int]:
        """Height and width in px; those of decoded latents for latents."""
        if self.original is not None:
            return self.original.shape[-2], self.original.shape[-1]
        return self.scaled.shape[-2] * factor, self.scaled.shape[-1] * factor

    def batch(self, batch_size: int) -> Tensor | None:
        """The originals, repeated as a whole to `batch_size`."""
        return None if self.original is None else self.original.repeat(batch_size // len(self.original), 1, 1, 1)


def read_pictures(image: Any, processor: VaeImageProcessor, latent_channels: int) -> Pictures:
    """Pictures from PIL images of any mode, numpy arrays (B, H, W, 3) or tensors (B, 3, H, W) in [0, 1], or lists of
    them.

    A tensor with `latent_channels` channels is latents. Lists are brought to the size of their first picture.
    """
    if image is None or not isinstance(image, (PIL.Image.Image, np.ndarray, Tensor, list)):
        raise ValueError(
            f"`image` must be a PIL image, an array, a tensor or a list of them, but is {type(image).__name__}."
        )
    images: Any = image if isinstance(image, list) else [image]
    if isinstance(images[0], Tensor) and images[0].shape[-3] == latent_channels:
        return Pictures(torch.cat([_as_batch(each) for each in images]), None)
    if isinstance(images[0], PIL.Image.Image):
        size = images[0].size
        images = [each.convert("RGB") for each in images]
        images = [each if each.size == size else each.resize(size, PIL.Image.Resampling.LANCZOS) for each in images]
        original = processor.numpy_to_pt(processor.pil_to_numpy(images))
    else:
        original = torch.cat([_as_batch(each) for each in images])
        if original.min() < 0:
            original = original / 2 + 0.5  # in [-1, 1], which the library's image processor takes as well
        images = original
    if original.shape[1] != 3:
        raise ValueError(
            f"`image` must have 3 channels (RGB) or {latent_channels} (latents), but has {original.shape[1]}."
        )
    factor = processor.config.vae_scale_factor
    height, width = (max(factor, side - side % factor) for side in original.shape[-2:])
    return Pictures(processor.preprocess(images, height, width), original.float())


def _as_batch(image: Any) -> Tensor:
    """(B, C, H, W) float of one array (H, W, C) or (B, H, W, C) or one tensor (C, H, W) or (B, C, H, W).

    Integers are 0 to 255 and become [0, 1].
    """
    if isinstance(image, np.ndarray):
        image = torch.tensor(image).movedim(-1, -3)
    if not image.is_floating_point():
        image = image.float() / 255
    return image if image.ndim == 4 else image[None]


def read_mask(mask: Any, batch_size: int) -> Tensor:
    """A binary mask (B, 1, H, W), float32, of a PIL image, an array or tensor, or a list of them; a copy.

    Values are in [0, 1], or 0 to 255 where a mask of integers goes above 1. One mask serves the whole batch. Raises
    ValueError for another count, several channels or other values.
    """
    masks = mask if isinstance(mask, list) else [mask]
    planes = []
    for each in masks:
        if isinstance(each, PIL.Image.Image):
            each = np.asarray(each.convert("L"), dtype=np.float32) / 255
        plane = torch.as_tensor(each)
        if isinstance(each, np.ndarray) and plane.ndim == 4 and plane.shape[-1] == 1:
            plane = plane.movedim(-1, 1)  # (B, H, W, 1), as the library has masks in arrays
        if not plane.is_floating_point():
            plane = plane.float() / (255 if plane.max() > 1 else 1)
        planes.append(plane[None, None] if plane.ndim == 2 else plane[:, None] if plane.ndim == 3 else plane)
    stacked = torch.cat(planes)
    if stacked.shape[1] != 1:
        raise ValueError(f"`mask_image` must have 1 channel, but has {stacked.shape[1]}.")
    if len(stacked) not in (1, batch_size):
        raise ValueError(
            f"`mask_image` holds {len(stacked)} masks for {batch_size} prompts. Pass one, or one for each."
        )
    if not (stacked.min() >= 0 and stacked.max() <= 1):
        raise ValueError(
            f"`mask_image` must be in [0, 1], but goes from {stacked.min().item()} to {stacked.max().item()}."
        )
    return (stacked >= MASKED).float().expand(batch_size, -1, -1, -1)


def resize_mask(mask: Tensor, height: int, width: int) -> Tensor:
    """A binary mask (B, 1, H, W) at another size. Going down, a cell is masked when any pixel of it is."""
    if mask.shape[-2] >= height and mask.shape[-1] >= width:
        return adaptive_max_pool2d(mask, (height, width))
    return interpolate(mask, size=(height, width), mode="nearest-exact")


def is_picture(image_latents: Any, latent_channels: int) -> bool:
    """Whether pictures were passed where trajectories are expected: PIL images, arrays, or tensors of 3 channels."""
    first = image_latents[0] if isinstance(image_latents, list) and image_latents else image_latents
    if isinstance(first, (PIL.Image.Image, np.ndarray)):
        return True
    return isinstance(first, Tensor) and first.ndim in (3, 4) and first.shape[-3] == 3 != latent_channels


def read_trajectory(image_latents: Any, batch_size: int, count: int, latent_channels: int) -> Tensor:
    """Levels (T, B, C, h, w), most noised first, of a tensor (B, T, C, h, w) or (B * T, C, h, w), or a list of the
    former.

    Raises ValueError for another number of levels or pictures, or another number of channels.
    """
    if isinstance(image_latents, list):
        image_latents = torch.cat(image_latents)
    if image_latents.ndim == 4:
        image_latents = image_latents.unflatten(0, (batch_size, -1))
    if image_latents.shape[:3] != (batch_size, count, latent_channels):
        raise ValueError(
            f"`image_latents` must hold {batch_size} trajectories of {count} levels and {latent_channels} channels,"
            f" but has the shape {tuple(image_latents.shape)}. Invert with the steps and the strength of the edit."
        )
    return image_latents.detach().transpose(0, 1)


def paste(edited: Tensor, picture: Tensor, mask: Tensor) -> Tensor:
    """`edited` (N, 3, h, w) brought to the picture's size where mask is 1, elsewhere the picture (N, 3, H, W) bit for
    bit."""
    size = picture.shape[-2:]
    edited = edited.to(torch.promote_types(edited.dtype, picture.dtype))
    if edited.shape[-2:] != size:
        edited = interpolate(edited, size=size, mode="bicubic", antialias=True).clamp(0, 1)
    return torch.where(resize_mask(mask, *size) > 0, edited, picture.to(edited.dtype))
