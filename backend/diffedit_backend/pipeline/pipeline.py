"""`DiffEditPipeline`: the interface of diffusers' StableDiffusionDiffEditPipeline on this project's own DiffEdit.

The stages are those of the paper (Couairon et al., arXiv 2210.11427): `generate_mask` finds where two texts disagree
about a picture, `invert` encodes the picture into noise, calling the pipeline edits it inside the mask. docs/faults.md
tells where results differ from the old class, and why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from diffusers.pipelines.stable_diffusion import StableDiffusionPipelineOutput
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from ..method.denoise import blend, masked_denoise
from ..method.difference import clamp_to_mean
from ..method.inversion import OnLevel
from ..method.inversion import invert as climb
from .components import PipelineComponents
from .inputs import (
    check_count,
    check_fraction,
    check_numbers,
    check_texts,
    is_picture,
    read_mask,
    read_pictures,
    read_trajectory,
    resize_mask,
)
from .networks import EDIT_OUTPUTS, MASK_OUTPUTS, Generators, difference_map
from .regularisation import Regularisation, regularise
from .text import Prompt, Texts, batch_size_of
from .trajectory import (
    TRAJECTORYS_STEPS,
    TRAJECTORYS_STRENGTH,
    Origin,
    backgrounds_of,
    check_retraceable,
    last_timesteps,
    offset_of,
    remember,
    retracing,
    schedule_for,
)

__all__ = ["DiffEditInversionPipelineOutput", "DiffEditPipeline"]

Callback = Callable[[int, Any, Tensor], None]


@dataclass
class DiffEditInversionPipelineOutput(BaseOutput):
    """What `invert` returns.

    latents: (B, T, C, h, w), most noised first. images: the decoded levels (B * T of them) as PIL images or an array
    (B * T, H, W, 3) in [0, 1]; None unless they were asked for.
    """

    latents: Tensor
    images: Any


class DiffEditPipeline(PipelineComponents):
    """Edits pictures by words with Stable Diffusion 1.x and 2.x, as diffusers' StableDiffusionDiffEditPipeline did.

    Args:
        vae, text_encoder, tokenizer, unet, scheduler, safety_checker, feature_extractor, inverse_scheduler:
            the components of a diffusers folder. The last three may be None; the inverse scheduler is then made from
            the scheduler: DPM-Solver's for DPM-Solver, else DDIM's.
        requires_safety_checker: whether to warn when there is no safety checker.
        reference: reproduce the old class's numbers where they merely differ from ours: the background is
            blended one level late, the picture is not pasted back outside the mask, the VAE's posterior is sampled even
            without a generator.
    """

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
        contrast = self._prompts.contrast(source, target, device, guidance_scale > 1, lora_scale)

        pictures = read_pictures(image, self.image_processor, self.vae.config.latent_channels)
        x0 = self.prepare_image_latents(pictures.scaled, batch_size, self.vae.dtype, device, generator, copies=maps)
        self.scheduler.set_timesteps(num_inference_steps, device=device)
        timesteps, count = self.get_timesteps(num_inference_steps, strength, device)
        t = timesteps[0] if count else self.scheduler.timesteps[-1]
        noise = randn_tensor(x0.shape, generator=generator, device=device, dtype=x0.dtype)
        noised = self.scheduler.add_noise(x0, noise, t.reshape(1))

        def predict(x: Tensor, embeds: Tensor) -> Tensor:
            return self._networks.predict(self.scheduler.scale_model_input(x, t), t, embeds, cross_attention_kwargs)

        difference = torch.stack(
            [
                difference_map(each, [row[index] for row in contrast], predict, guidance_scale)
                for index, each in enumerate(noised.unflatten(0, (batch_size, maps)))
            ]
        )
        soft = clamp_to_mean(difference, mask_thresholding_ratio)  # (B, h, w)
        self.maybe_free_model_hooks()
        return self._networks.mask_as(output_type, soft, pictures)

    @torch.no_grad()
    def invert(
        self,
        prompt: Prompt | None = None,
        image: Any = None,
        num_inference_steps: int = 50,
        inpaint_strength: float = 0.8,
        guidance_scale: float = 7.5,
        negative_prompt: Prompt | None = None,
        generator: Generators = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        decode_latents: bool = False,
        output_type: str | None = "pil",
        return_dict: bool = True,
        callback: Callback | None = None,
        callback_steps: int | None = 1,
        cross_attention_kwargs: dict[str, Any] | None = None,
        lambda_auto_corr: float = 20.0,
        lambda_kl: float = 20.0,
        num_reg_steps: int = 0,
        num_auto_corr_rolls: int = 5,
    ) -> Any:
        """Encode pictures into noise, keeping every level on the way.

        Args:
            prompt: the pictures' captions. Without prompt and embeddings the inversion is unconditional, as in the
                paper: that takes half the evaluations of a guided one and reconstructs best.
            image: B pictures, see `read_pictures`, or latents (B, C, h, w).
            num_inference_steps, inpaint_strength: the levels, and what share of them in [0, 1] is climbed.
            guidance_scale: above 1 the inversion is guided by the prompt; above about 3 it reconstructs badly.
            decode_latents, output_type: whether the levels are decoded too, as "pil" images or an "np" array.
            callback: called as (step, time step, latents) every `callback_steps` steps.
            lambda_auto_corr, lambda_kl, num_reg_steps, num_auto_corr_rolls: see `Regularisation`; off by default.

        Returns: `DiffEditInversionPipelineOutput`, or (latents, images) when `return_dict` is False.
        """
        texts = Texts(prompt, negative_prompt, prompt_embeds, negative_prompt_embeds)
        check_texts("prompt", texts, needed=False)
        strength = check_fraction("inpaint_strength", inpaint_strength)
        every = check_count("callback_steps", callback_steps)
        check_retraceable(self.scheduler)
        pictures = read_pictures(image, self.image_processor, self.vae.config.latent_channels)
        device = self._execution_device
        conditional = prompt is not None or prompt_embeds is not None
        batch_size = texts.batch_size if conditional else len(pictures.scaled)
        x0 = self.prepare_image_latents(pictures.scaled, batch_size, self.vae.dtype, device, generator)
        guided = conditional and guidance_scale > 1
        embeds, negative_embeds = self.encode_prompt(
            prompt if conditional else [""] * batch_size,
            device,
            1,
            guided,
            negative_prompt,
            prompt_embeds,
            negative_prompt_embeds,
            (cross_attention_kwargs or {}).get("scale"),
        )
        inverse = self._inverse()
        inverse.set_timesteps(num_inference_steps, device=device)
        timesteps, count = self.get_inverse_timesteps(num_inference_steps, strength, device)
        guess = self._networks.predictor(
            inverse, embeds, negative_embeds if guided else None, guidance_scale, cross_attention_kwargs
        )
        regularisation = Regularisation(num_reg_steps, lambda_auto_corr, lambda_kl, num_auto_corr_rolls)

        def predict(x: Tensor, t: Any) -> Tensor:
            noise_of = partial(self.get_epsilon, sample=x, timestep=t)
            shifts = None if isinstance(generator, list) else generator
            return regularise(guess(x, t), noise_of, regularisation, shifts)

        x0 = x0.to(embeds.dtype)
        with self.progress_bar(total=count) as bar:
            listen = _listener(bar, timesteps, callback, every)
            trajectory = climb(
                x0, timesteps, predict, lambda output, t, x: inverse.step(output, t, x).prev_sample, listen
            )
        latents = trajectory[1:].flip(0).transpose(0, 1).contiguous()  # (B, T, C, h, w), most noised first
        remember(latents, Origin(num_inference_steps, strength, offset_of(inverse), x0, pictures.batch(batch_size)))

        images: Any = self.decode_latents(latents.flatten(0, 1)) if decode_latents else None
        if decode_latents and output_type == "pil":
            images = self.image_processor.numpy_to_pil(images)
        self.maybe_free_model_hooks()
        return DiffEditInversionPipelineOutput(latents=latents, images=images) if return_dict else (latents, images)

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
                check_fraction("inpaint_strength", inpaint_strength),
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
            backgrounds, masks = backgrounds_of(levels, origin, held, one_level_late=bool(self.config.reference))
            extra = self.prepare_extra_step_kwargs(generator, eta)
            predict = self._networks.predictor(
                scheduler, embeds, negative_embeds if guided else None, guidance_scale, cross_attention_kwargs
            )
            with self.progress_bar(total=len(timesteps)) as bar:
                listen = _listener(bar, timesteps, callback, every)
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
            images, flagged = self._networks.show(x, None if origin is None else origin.picture, mask, embeds.dtype)
            images = self._networks.pictures_as(output_type, images)
        self.maybe_free_model_hooks()
        if not return_dict:
            return images, flagged
        return StableDiffusionPipelineOutput(images=images, nsfw_content_detected=flagged)


def _listener(bar: Any, timesteps: Tensor, callback: Callback | None, callback_steps: int) -> OnLevel:
    """Moves the progress bar and calls back every `callback_steps` steps."""

    def on_level(index: int, x: Tensor) -> None:
        bar.update()
        if callback is not None and index % callback_steps == 0:
            callback(index, timesteps[index], x)

    return on_level
