"""The first stage of `DiffEditPipeline`: where do two texts disagree about a picture?

Noises go through the network a few at a time, so that memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from torch.nn.functional import interpolate

from ..method.denoise import guide
from ..method.difference import clamp_to_mean, prediction_difference
from .inputs import MASKED, Pictures, check_count, check_fraction, check_texts, read_pictures
from .parts import Generators, PipelineParts
from .text import Prompt, PromptEncoding, Texts

MASK_OUTPUTS = ("np", "pt", "pil", "soft")

# Rows that go through the network at once; at its defaults the old class sends 40.
ROWS_ON_CPU, ROWS_ON_ACCELERATOR = 4, 10

# The network's output for rows (N, C, h, w) under embeddings (N, L, D).
PredictRows = Callable[[Tensor, Tensor], Tensor]


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


class MaskStage(PipelineParts, PromptEncoding):
    """Gives `DiffEditPipeline` its `generate_mask`."""

    @torch.no_grad()
    def generate_mask(
        self,
        image: Any = None,
        target_prompt: Prompt | None = None,
        target_negative_prompt: Prompt | None = None,
        target_prompt_embeds: Tensor | None = None,
        target_negative_prompt_embeds: Tensor | None = None,
        source_prompt: Prompt | None = None,
        source_negative_prompt: Prompt | None = None,
        source_prompt_embeds: Tensor | None = None,
        source_negative_prompt_embeds: Tensor | None = None,
        num_maps_per_mask: int | None = 10,
        mask_encode_strength: float | None = 0.5,
        mask_thresholding_ratio: float | None = 3.0,
        num_inference_steps: int = 50,
        guidance_scale: float = 7.5,
        generator: Generators = None,
        output_type: str | None = "np",
        cross_attention_kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Find where the predictions under the source and the target text differ.

        Args:
            image: B pictures, see `read_pictures`, or latents (B, C, h, w).
            source_*, target_*: texts or embeddings (B or 1, L, D). Negatives count only above guidance 1, and only
                where those of source and target differ: equal ones cancel out and are not evaluated.
            num_maps_per_mask: over how many noises the difference is averaged.
            mask_encode_strength: how much noise, in [0, 1] of `num_inference_steps`; at least their lowest level.
            mask_thresholding_ratio: the map is clamped at this many times its mean; half of that is the threshold.
            output_type: "np" for a float32 array (B, h, w) of 0 and 1 at the size of the latents, as the library's
                inpainting pipelines take it, "pt" for a tensor,
                "pil" for a list of images of 0 and 255, "soft" for the map itself, float32 (B, H, W) in [0, 1] at the
                picture's size: `> 0.5` gives a mask with finer edges.

        Equal texts have no difference: their mask is empty.
        """
        source = Texts(source_prompt, source_negative_prompt, source_prompt_embeds, source_negative_prompt_embeds)
        target = Texts(target_prompt, target_negative_prompt, target_prompt_embeds, target_negative_prompt_embeds)
        check_texts("source_prompt", source)
        check_texts("target_prompt", target)
        strength = check_fraction("mask_encode_strength", mask_encode_strength)
        maps = check_count("num_maps_per_mask", num_maps_per_mask)
        if mask_thresholding_ratio is None or mask_thresholding_ratio <= 0:
            raise ValueError(f"`mask_thresholding_ratio` must be above 0, but is {mask_thresholding_ratio!r}.")
        if output_type not in MASK_OUTPUTS:
            raise ValueError(f"`output_type` must be one of {', '.join(MASK_OUTPUTS)}, but is {output_type!r}.")
        device, batch_size = self._execution_device, target.batch_size
        lora_scale = (cross_attention_kwargs or {}).get("scale")
        contrast = self.embed_contrast(source, target, device, guidance_scale > 1, lora_scale)

        pictures = read_pictures(image, self.image_processor, self.vae.config.latent_channels)
        x0 = self.prepare_image_latents(pictures.scaled, batch_size, self.vae.dtype, device, generator, copies=maps)
        self.scheduler.set_timesteps(num_inference_steps, device=device)
        timesteps, count = self.get_timesteps(num_inference_steps, strength, device)
        t = timesteps[0] if count else self.scheduler.timesteps[-1]
        noise = randn_tensor(x0.shape, generator=generator, device=device, dtype=x0.dtype)
        noised = self.scheduler.add_noise(x0, noise, t.reshape(1))

        def predict(x: Tensor, embeds: Tensor) -> Tensor:
            return self._network(self.scheduler.scale_model_input(x, t), t, embeds, cross_attention_kwargs)

        difference = torch.stack(
            [
                difference_map(each, [row[index] for row in contrast], predict, guidance_scale)
                for index, each in enumerate(noised.unflatten(0, (batch_size, maps)))
            ]
        )
        soft = clamp_to_mean(difference, mask_thresholding_ratio)  # (B, h, w)
        self.maybe_free_model_hooks()
        return self._mask_as(output_type, soft, pictures)

    def _mask_as(self, output_type: str, soft: Tensor, pictures: Pictures) -> Any:
        """A soft map (B, h, w) in [0, 1] as one of MASK_OUTPUTS."""
        if output_type == "soft":
            size = pictures.size(self.vae_scale_factor)
            return interpolate(soft[:, None].float(), size=size, mode="bilinear")[:, 0].cpu().numpy()
        mask = (soft > MASKED).float()
        if output_type == "pt":
            return mask
        array = mask.cpu().numpy()
        return array if output_type == "np" else self.image_processor.numpy_to_pil(array[..., None])
