"""The networks of a `DiffEditPipeline` and what its stages ask of them: encode, predict, decode, check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils.torch_utils import randn_tensor
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from ..method.denoise import guide
from ..method.difference import prediction_difference
from ..method.inversion import Predict
from .inputs import MASKED, Pictures, check_numbers, paste

Generators = torch.Generator | list[torch.Generator] | None
# The network's output for rows (N, C, h, w) under embeddings (N, L, D).
PredictRows = Callable[[Tensor, Tensor], Tensor]

# What a mask and an edit can be handed back as.
MASK_OUTPUTS = ("np", "pt", "pil", "soft")
EDIT_OUTPUTS = ("pil", "np", "pt", "latent")
# Rows that go through the network at once; at its defaults the old class sends 40.
ROWS_ON_CPU, ROWS_ON_ACCELERATOR = 4, 10


@dataclass(frozen=True, eq=False)
class Networks:
    """A pipeline's networks as they are at the time of a call.

    safety_checker, feature_extractor: None where there is no checker. reference: sample the VAE's posterior and paste
    nothing, as the old class did.
    """

    vae: Any
    unet: Any
    safety_checker: Any
    feature_extractor: Any
    image_processor: VaeImageProcessor
    reference: bool

    def encode(
        self,
        image: Tensor,
        batch_size: int,
        dtype: torch.dtype,
        device: Any,
        generator: Generators = None,
        copies: int = 1,
    ) -> Tensor:
        """Latents of pictures (n, 3, H, W) in [-1, 1], each encoded once. Latents pass through.

        Fewer pictures than batch_size are repeated as a whole; each is then there `copies` times in a row.
        Returns (batch_size * copies, C, H / f, W / f). Raises ValueError when n does not divide batch_size.

        They are the mode of the VAE's posterior, the same for every stage. Only from a generator of the caller's is the
        posterior sampled, once for each copy, so that a seed gives what it gave with the old class.
        """
        if batch_size % len(image):
            raise ValueError(f"{len(image)} pictures cannot be shared out evenly to {batch_size} prompts.")
        image = image.to(device, dtype)
        if image.shape[1] == self.vae.config.latent_channels:
            latents = image.repeat_interleave(copies, dim=0)
        else:
            posteriors = [self.vae.encode(each).latent_dist for each in torch.split(image, 1)]
            latents = torch.cat([each.mode() for each in posteriors]).repeat_interleave(copies, dim=0)
            if generator is not None or self.reference:
                deviation = torch.cat([each.std for each in posteriors]).repeat_interleave(copies, dim=0)
                draws = randn_tensor(latents.shape, generator=generator, device=latents.device, dtype=latents.dtype)
                latents = latents + deviation * draws
            latents = self.vae.config.scaling_factor * latents
        return latents.repeat(batch_size * copies // len(latents), 1, 1, 1)

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1] of latents (B, C, h, w), one after the other, so that memory does not grow
        with B."""
        scaled = latents.to(self.vae.dtype) / self.vae.config.scaling_factor
        return torch.cat([self.vae.decode(each, return_dict=False)[0] for each in torch.split(scaled, 1)])

    def decode_to_array(self, latents: Tensor) -> NDArray[np.float32]:
        """Pictures (B, H, W, 3) float32 in [0, 1] of latents (B, C, h, w)."""
        if len(latents) == 0:
            height, width = (side * self.image_processor.config.vae_scale_factor for side in latents.shape[-2:])
            return np.zeros((0, height, width, 3), np.float32)
        return np.concatenate(
            [
                self.image_processor.pt_to_numpy(self.image_processor.denormalize(self.decode(each)))
                for each in torch.split(latents, 1)
            ]
        )

    def check_safety(self, image: Any, device: Any, dtype: torch.dtype) -> tuple[Any, list[bool] | None]:
        """Pictures with flagged ones blacked out, and which were flagged; None without a safety checker.

        image: tensor (B, 3, H, W) in [-1, 1] or array (B, H, W, 3) in [0, 1].
        """
        if self.safety_checker is None:
            return image, None
        if isinstance(image, Tensor):
            shown = self.image_processor.postprocess(image, output_type="pil")
        else:
            shown = self.image_processor.numpy_to_pil(image)
        features = self.feature_extractor(shown, return_tensors="pt").to(device)
        return self.safety_checker(images=image, clip_input=features.pixel_values.to(dtype))

    def show(
        self, latents: Tensor, picture: Tensor | None, mask: Tensor, dtype: torch.dtype
    ) -> tuple[Tensor, list[bool] | None]:
        """Pictures (N, 3, H, W) in [0, 1] of latents: the originals outside the mask, black where the checker
        objects."""
        shown = self.image_processor.denormalize(self.decode(latents))
        check_numbers(shown)
        if picture is not None and not self.reference:
            shown = paste(shown, picture.to(shown.device), mask)
        _, flagged = self.check_safety(shown * 2 - 1, shown.device, dtype)
        for index, objected in enumerate(flagged or []):
            if objected:
                shown[index] = 0
        return shown, flagged

    def pictures_as(self, output_type: str | None, pictures: Tensor) -> Any:
        """Pictures (N, 3, H, W) in [0, 1] as one of EDIT_OUTPUTS."""
        if output_type == "pt":
            return pictures
        array = self.image_processor.pt_to_numpy(pictures)
        return array if output_type == "np" else self.image_processor.numpy_to_pil(array)

    def mask_as(self, output_type: str, soft: Tensor, pictures: Pictures) -> Any:
        """A soft map (B, h, w) in [0, 1] as one of MASK_OUTPUTS."""
        if output_type == "soft":
            size = pictures.size(self.image_processor.config.vae_scale_factor)
            return interpolate(soft[:, None].float(), size=size, mode="bilinear")[:, 0].cpu().numpy()
        mask = (soft > MASKED).float()
        if output_type == "pt":
            return mask
        array = mask.cpu().numpy()
        return array if output_type == "np" else self.image_processor.numpy_to_pil(array[..., None])

    def predict(self, x: Tensor, t: Any, embeds: Tensor, cross_attention_kwargs: dict[str, Any] | None) -> Tensor:
        """The UNet's output for rows x (N, C, h, w) under embeds (N, L, D), in x's dtype whatever the UNet's is."""
        dtype = self.unet.dtype
        output = self.unet(
            x.to(dtype), t, encoder_hidden_states=embeds.to(dtype), cross_attention_kwargs=cross_attention_kwargs
        )
        return output.sample.to(x.dtype)

    def predictor(
        self,
        scheduler: Any,
        embeds: Tensor,
        negative_embeds: Tensor | None,
        guidance_scale: float,
        cross_attention_kwargs: dict[str, Any] | None,
    ) -> Predict:
        """The guided prediction as a function of (x, t); without negatives the conditional one, at half the rows."""
        rows = embeds if negative_embeds is None else torch.cat([negative_embeds, embeds])

        def guided(x: Tensor, t: Any) -> Tensor:
            copies = len(rows) // len(x)
            output = self.predict(
                scheduler.scale_model_input(torch.cat([x] * copies), t), t, rows, cross_attention_kwargs
            )
            if copies == 1:
                return output
            unconditional, conditional = output.chunk(2)
            return guide(unconditional, conditional, guidance_scale)

        return guided


def difference_map(noised: Tensor, contrast: list[Tensor], predict: PredictRows, guidance_scale: float) -> Tensor:
    """The mean absolute difference (h, w) of the predictions under two texts, over noises and channels.

    noised: (n, C, h, w), one picture under n noises. contrast: [source, target] or [source's negative, source, target's
    negative, target], each (L, D). Equal texts differ nowhere, which needs no evaluation.
    """
    half = len(contrast) // 2
    if all(torch.equal(a, b) for a, b in zip(contrast[:half], contrast[half:], strict=True)):
        return noised.new_zeros(noised.shape[-2:])
    limit = ROWS_ON_CPU if noised.device.type == "cpu" else ROWS_ON_ACCELERATOR
    total = noised.new_zeros(noised.shape[-2:])
    for some in torch.split(noised, max(1, limit // len(contrast))):
        embeds = torch.stack(contrast).repeat_interleave(len(some), dim=0)
        outputs = predict(some.repeat(len(contrast), 1, 1, 1), embeds).chunk(len(contrast))
        if half == 2:
            outputs = (guide(outputs[0], outputs[1], guidance_scale), guide(outputs[2], outputs[3], guidance_scale))
        total += prediction_difference(outputs[0], outputs[1]) * len(some)
    return total / len(noised)
