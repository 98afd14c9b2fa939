"""The second stage of `DiffEditPipeline`: a picture becomes noise, level by level."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from diffusers.utils import BaseOutput
from torch import Tensor

from ..method.inversion import invert as climb
from .inputs import check_count, check_fraction, check_texts, read_pictures
from .parts import Callback, Generators, PipelineParts
from .regularisation import Regularisation, regularise
from .text import Prompt, PromptEncoding, Texts
from .trajectory import Origin, check_retraceable, inverse_of, offset_of, remember


@dataclass
class DiffEditInversionPipelineOutput(BaseOutput):
    """What `invert` returns.

    latents: (B, T, C, h, w), most noised first. images: the decoded levels (B * T of them) as PIL images or an array
    (B * T, H, W, 3) in [0, 1]; None unless they were asked for.
    """

    latents: Tensor
    images: Any


class InversionStage(PipelineParts, PromptEncoding):
    """Gives `DiffEditPipeline` its `invert`."""

    _inverse_made_from: Any = None  # the scheduler, where the inverse scheduler was made from it

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
        guess = self._predictor(
            inverse, embeds, negative_embeds if guided else None, guidance_scale, cross_attention_kwargs
        )
        regularisation = Regularisation(num_reg_steps, lambda_auto_corr, lambda_kl, num_auto_corr_rolls)

        def predict(x: Tensor, t: Any) -> Tensor:
            noise_of = partial(self.get_epsilon, sample=x, timestep=t)
            shifts = None if isinstance(generator, list) else generator
            return regularise(guess(x, t), noise_of, regularisation, shifts)

        x0 = x0.to(embeds.dtype)
        with self.progress_bar(total=count) as bar:
            listen = self._listener(bar, timesteps, callback, every)
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

    def _inverse(self) -> Any:
        """The inverse scheduler: the caller's, or one that is made anew whenever the scheduler is another one."""
        if self._inverse_made_from is not None and self._inverse_made_from is not self.scheduler:
            self.inverse_scheduler = None
        made = self.inverse_scheduler is None
        self.inverse_scheduler = inverse_of(self.scheduler, self.inverse_scheduler)
        if made:
            self._inverse_made_from = self.scheduler
        return self.inverse_scheduler
