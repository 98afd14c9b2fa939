"""The last stage of `DiffEditPipeline`: noise becomes the edited picture, its background held in place."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.pipelines.stable_diffusion import StableDiffusionPipelineOutput
from torch import Tensor

from ..method.denoise import blend, masked_denoise
from .inputs import (
    check_count,
    check_numbers,
    check_texts,
    is_picture,
    read_mask,
    read_pictures,
    read_trajectory,
    resize_mask,
)
from .parts import Callback, Generators, PipelineParts
from .text import Prompt, PromptEncoding, Texts, batch_size_of
from .trajectory import (
    TRAJECTORYS_STEPS,
    TRAJECTORYS_STRENGTH,
    Origin,
    check_retraceable,
    last_timesteps,
    offset_of,
    origin_of,
    retracing,
    schedule_for,
)

EDIT_OUTPUTS = ("pil", "np", "pt", "latent")


class EditStage(PipelineParts, PromptEncoding):
    """Makes `DiffEditPipeline` callable."""

    @torch.no_grad()
    def __call__(
        self,
        prompt: Prompt | None = None,
        mask_image: Any = None,
        image_latents: Any = None,
        inpaint_strength: float | None = TRAJECTORYS_STRENGTH,
        num_inference_steps: int = TRAJECTORYS_STEPS,
        guidance_scale: float = 7.5,
        negative_prompt: Prompt | None = None,
        num_images_per_prompt: int | None = 1,
        eta: float = 0.0,
        generator: Generators = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        output_type: str | None = "pil",
        return_dict: bool = True,
        callback: Callback | None = None,
        callback_steps: int = 1,
        cross_attention_kwargs: dict[str, Any] | None = None,
        clip_skip: int | None = None,
        image: Any = None,
        clip_ckip: int | None = None,
    ) -> Any:
        """Denoise inverted pictures under the prompt; outside the mask the encoded pictures are held in place.

        Args:
            prompt: what should be there, one text or a list of B.
            mask_image: what `generate_mask` gives, or masks of any other size in [0, 1], 1 where to edit.
            image_latents: the trajectories (B, T, C, h, w) of `invert`, or a list of them. Pictures, in any form but
                latents, are inverted first, under no prompt.
            inpaint_strength, num_inference_steps: of the trajectory; left out, they are known from its `invert`.
            num_images_per_prompt: variations of every picture; they differ where `eta` or the scheduler draws noise.
            latents: (B, C, h, w), what to start from inside the mask instead of the most noised level.
            output_type: "pil", "np" (B, H, W, 3) in [0, 1], "pt" (B, 3, H, W) in [0, 1] or "latent".
            clip_skip, clip_ckip: how many of CLIP's last layers are left out; the second spelling is that of the
                library's page.
            image: the pictures of `image_latents`, needed only when these do not come from `invert` of this process.

        Where the pictures are known they come back outside the mask, bit for bit and in their own size.
        Returns: `StableDiffusionPipelineOutput`, or (images, flagged) when `return_dict` is False.
        """
        check_texts("prompt", Texts(prompt, negative_prompt, prompt_embeds, negative_prompt_embeds))
        if mask_image is None:
            raise ValueError("`mask_image` is undefined. `generate_mask()` makes one from two prompts.")
        if image_latents is None:
            raise ValueError("`image_latents` is undefined. `invert()` makes them from a picture.")
        if output_type not in EDIT_OUTPUTS:
            raise ValueError(f"`output_type` must be one of {', '.join(EDIT_OUTPUTS)}, but is {output_type!r}.")
        if None not in (clip_skip, clip_ckip) and clip_skip != clip_ckip:
            raise ValueError(f"`clip_skip` is {clip_skip} and `clip_ckip` {clip_ckip}: pass one of them.")
        clip_skip = clip_ckip if clip_skip is None else clip_skip
        check_retraceable(self.scheduler)
        every = check_count("callback_steps", callback_steps)
        copies = check_count("num_images_per_prompt", num_images_per_prompt)
        if is_picture(image_latents, self.vae.config.latent_channels):
            image_latents = self.invert(
                [""] * batch_size_of(prompt, prompt_embeds),
                image_latents,
                num_inference_steps,
                inpaint_strength,
                guidance_scale=1.0,
            ).latents
        steps, strength = schedule_for(image_latents, num_inference_steps, inpaint_strength)
        device = self._execution_device
        batch_size = batch_size_of(prompt, prompt_embeds)
        guided = guidance_scale > 1
        embeds, negative_embeds = self.encode_prompt(
            prompt,
            device,
            copies,
            guided,
            negative_prompt,
            prompt_embeds,
            negative_prompt_embeds,
            (cross_attention_kwargs or {}).get("scale"),
            clip_skip,
        )
        origin = self._origin(image_latents, image, steps, strength, batch_size, copies)
        scheduler = self.scheduler if origin is None or self.config.reference else retracing(self.scheduler, origin)
        scheduler.set_timesteps(steps, device=device)
        timesteps = last_timesteps(scheduler, steps, strength)
        levels = read_trajectory(image_latents, batch_size, len(timesteps), self.vae.config.latent_channels)
        levels = levels.to(device, embeds.dtype).repeat_interleave(copies, dim=1)  # (T, N, C, h, w), N = B * copies
        mask = read_mask(mask_image, batch_size).to(device).repeat_interleave(copies, dim=0)  # (N, 1, H, W)
        held = resize_mask(mask, *levels.shape[-2:]).to(levels.dtype)  # (N, 1, h, w)

        if len(timesteps) == 0:
            if origin is None:
                raise ValueError(
                    "`image_latents` holds no level and its picture is unknown: pass `image`, or raise the strength."
                )
            x, mask = origin.x0.to(device, embeds.dtype), torch.zeros_like(mask)
        else:
            start = levels[0] if latents is None else blend(latents.to(levels), levels[0], held)
            backgrounds, masks = self._backgrounds(levels, origin, held)
            extra = self.prepare_extra_step_kwargs(generator, eta)
            predict = self._predictor(
                scheduler, embeds, negative_embeds if guided else None, guidance_scale, cross_attention_kwargs
            )
            with self.progress_bar(total=len(timesteps)) as bar:
                listen = self._listener(bar, timesteps, callback, every)
                x = masked_denoise(
                    start,
                    timesteps,
                    predict,
                    lambda output, t, x: scheduler.step(output, t, x, **extra).prev_sample,
                    backgrounds,
                    masks,
                    listen,
                )
        check_numbers(x)
        images: Any = x
        flagged = None
        if output_type != "latent":
            images, flagged = self._show(x, None if origin is None else origin.picture, mask, embeds.dtype)
            images = self._pictures_as(output_type, images)
        self.maybe_free_model_hooks()
        if not return_dict:
            return images, flagged
        return StableDiffusionPipelineOutput(images=images, nsfw_content_detected=flagged)

    def _origin(
        self, image_latents: Any, image: Any, steps: int, strength: float, batch_size: int, copies: int
    ) -> Origin | None:
        """Where the trajectories come from, as far as it is known, every picture `copies` times."""
        origin = origin_of(image_latents)
        if image is not None:
            pictures = read_pictures(image, self.image_processor, self.vae.config.latent_channels)
            x0 = self.prepare_image_latents(pictures.scaled, batch_size, self.vae.dtype, self._execution_device)
            origin = Origin(steps, strength, offset_of(self.scheduler), x0, pictures.batch(batch_size))
        return None if origin is None else origin.repeated(copies)

    def _backgrounds(self, levels: Tensor, origin: Origin | None, held: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """What is put back outside the mask after every step, and the masks: the level just reached, x0 at the end.

        Without x0 the last step is not blended: the background that it denoises is one step from the picture.
        """
        count = len(levels)
        if self.config.reference:
            return list(levels), [held] * count
        if origin is None:
            return [*levels[1:], levels[-1]], [held] * (count - 1) + [torch.ones_like(held)]
        return [*levels[1:], origin.x0.to(levels)], [held] * count
