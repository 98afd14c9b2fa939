"""The components of a `DiffEditPipeline` and what is asked of them beside the stages of an edit: the helper methods of
the deprecated class, under its names."""

from __future__ import annotations

import inspect
import logging
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMInverseScheduler, UNet2DConditionModel
from diffusers.configuration_utils import FrozenDict
from diffusers.image_processor import VaeImageProcessor
from diffusers.loaders import StableDiffusionLoraLoaderMixin, TextualInversionLoaderMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline, StableDiffusionMixin
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from diffusers.schedulers import KarrasDiffusionSchedulers
from diffusers.utils.torch_utils import randn_tensor
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPImageProcessor, CLIPTextModel, CLIPTokenizer

from ..method.schedule import VariancePreservingSchedule
from .inputs import check_count, check_fraction, check_texts, read_pictures
from .networks import Generators, Networks
from .text import Prompt, PromptEncoder, Texts
from .trajectory import Origin, encoding_steps, inverse_of, last_timesteps, offset_of, origin_of

logger = logging.getLogger(__name__)


class PipelineComponents(
    TextualInversionLoaderMixin, StableDiffusionLoraLoaderMixin, DiffusionPipeline, StableDiffusionMixin
):
    """The networks, the schedulers and the text encoder of a `DiffEditPipeline`, which adds the stages of an edit."""

    _inverse_made_from: Any = None  # the scheduler, where the inverse scheduler was made from it
    model_cpu_offload_seq = "text_encoder->unet->vae"
    _optional_components: ClassVar[list[str]] = ["safety_checker", "feature_extractor", "inverse_scheduler"]
    _exclude_from_cpu_offload: ClassVar[list[str]] = ["safety_checker"]

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet: UNet2DConditionModel,
        scheduler: KarrasDiffusionSchedulers,
        safety_checker: StableDiffusionSafetyChecker,
        feature_extractor: CLIPImageProcessor,
        inverse_scheduler: DDIMInverseScheduler,
        requires_safety_checker: bool = True,
        reference: bool = False,
    ) -> None:
        super().__init__()
        if scheduler is not None and scheduler.config.get("steps_offset", 1) != 1:
            logger.warning("The scheduler's steps_offset %s is outdated; 1 is used.", scheduler.config.steps_offset)
            scheduler._internal_dict = FrozenDict({**scheduler.config, "steps_offset": 1})
        if safety_checker is None and requires_safety_checker:
            logger.warning(
                "There is no safety checker: mind the model's licence before showing unfiltered results to others."
            )
        if safety_checker is not None and feature_extractor is None:
            raise ValueError("The safety checker needs `feature_extractor`: pass one, or `safety_checker=None`.")
        self.register_modules(
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            unet=unet,
            scheduler=scheduler,
            safety_checker=safety_checker,
            feature_extractor=feature_extractor,
            inverse_scheduler=inverse_scheduler,
        )
        self.vae_scale_factor = 2 ** (len(vae.config.block_out_channels) - 1) if vae is not None else 8
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)
        self.register_to_config(requires_safety_checker=requires_safety_checker, reference=reference)

    def encode_prompt(
        self,
        prompt: Prompt | None,
        device: torch.device | str,
        num_images_per_prompt: int,
        do_classifier_free_guidance: bool,
        negative_prompt: Prompt | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        lora_scale: float | None = None,
        clip_skip: int | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Embeddings of the prompts and of their negatives.

        Args:
            prompt, negative_prompt: one text or a list of B; not needed where embeddings are given.
            num_images_per_prompt: how often each embedding is repeated, one after the other.
            do_classifier_free_guidance: False leaves the negatives out (returned as they were given).
            prompt_embeds, negative_prompt_embeds: (B, L, D), used instead of texts.
            lora_scale: weight of the text encoder's LoRA layers during this call.
            clip_skip: how many of CLIP's last layers are left out.

        Returns: two tensors (B * num_images_per_prompt, L, D) in the text encoder's dtype.
        """
        texts = Texts(prompt, negative_prompt, prompt_embeds, negative_prompt_embeds)
        prompt_embeds, negative_prompt_embeds = self._prompts.encode(
            texts, device, num_images_per_prompt, do_classifier_free_guidance, lora_scale, clip_skip
        )
        # The library's own tests read the names of what is returned from this line.
        return prompt_embeds, negative_prompt_embeds

    def check_inputs(
        self,
        prompt: Any,
        strength: Any,
        callback_steps: Any,
        negative_prompt: Any = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
    ) -> None:
        """Raises ValueError for a prompt given twice or not at all, a strength out of [0, 1], callback_steps below
        1."""
        check_fraction("strength", strength)
        check_count("callback_steps", callback_steps)
        check_texts("prompt", Texts(prompt, negative_prompt, prompt_embeds, negative_prompt_embeds))

    def check_source_inputs(
        self,
        source_prompt: Any = None,
        source_negative_prompt: Any = None,
        source_prompt_embeds: Tensor | None = None,
        source_negative_prompt_embeds: Tensor | None = None,
    ) -> None:
        """Raises ValueError for a source prompt given twice or not at all."""
        texts = Texts(source_prompt, source_negative_prompt, source_prompt_embeds, source_negative_prompt_embeds)
        check_texts("source_prompt", texts)

    def get_timesteps(self, num_inference_steps: int, strength: float, device: Any) -> tuple[Tensor, int]:
        """The last `strength` of the scheduler's time steps (descending), and their number."""
        timesteps = last_timesteps(self.scheduler, num_inference_steps, strength)
        return timesteps, encoding_steps(num_inference_steps, strength)

    def get_inverse_timesteps(self, num_inference_steps: int, strength: float, device: Any) -> tuple[Tensor, int]:
        """The first `strength` of the inverse scheduler's time steps (ascending), and their number."""
        count = encoding_steps(num_inference_steps, strength)
        return self._inverse().timesteps[:count], count

    def get_epsilon(self, model_output: Tensor, sample: Tensor, timestep: Any) -> Tensor:
        """The noise that the network's output at `sample` stands for."""
        schedule = VariancePreservingSchedule.from_scheduler(self.inverse_scheduler)
        return schedule.data_and_noise(model_output, sample, schedule.level(int(timestep)))[1]

    def prepare_extra_step_kwargs(self, generator: Generators, eta: float) -> dict[str, Any]:
        """`eta` and `generator` for those schedulers whose `step` takes them."""
        known = inspect.signature(self.scheduler.step).parameters
        return {name: value for name, value in (("eta", eta), ("generator", generator)) if name in known}

    def prepare_latents(
        self,
        batch_size: int,
        num_channels_latents: int,
        height: int,
        width: int,
        dtype: torch.dtype,
        device: Any,
        generator: Generators,
        latents: Tensor | None = None,
    ) -> Tensor:
        """(batch_size, C, height / f, width / f): `latents` or fresh noise, at the scheduler's initial deviation."""
        if latents is None:
            shape = (batch_size, num_channels_latents, height // self.vae_scale_factor, width // self.vae_scale_factor)
            latents = randn_tensor(shape, generator=generator, device=device, dtype=dtype)
        return latents.to(device) * self.scheduler.init_noise_sigma

    def prepare_image_latents(
        self,
        image: Tensor,
        batch_size: int,
        dtype: torch.dtype,
        device: Any,
        generator: Generators = None,
        copies: int = 1,
    ) -> Tensor:
        """Latents of pictures, see `Networks.encode`."""
        return self._networks.encode(image, batch_size, dtype, device, generator, copies)

    def decode_latents(self, latents: Tensor) -> NDArray[np.float32]:
        """Pictures (B, H, W, 3) float32 in [0, 1] of latents (B, C, h, w)."""
        return self._networks.decode_to_array(latents)

    def run_safety_checker(self, image: Any, device: Any, dtype: torch.dtype) -> tuple[Any, list[bool] | None]:
        """Pictures with flagged ones blacked out, and which were flagged; None without a safety checker.

        image: tensor (B, 3, H, W) in [-1, 1] or array (B, H, W, 3) in [0, 1].
        """
        return self._networks.check_safety(image, device, dtype)

    def enable_vae_slicing(self) -> None:
        """Let the VAE take batches one picture at a time."""
        self.vae.enable_slicing()

    def disable_vae_slicing(self) -> None:
        """Let the VAE take batches whole."""
        self.vae.disable_slicing()

    def enable_vae_tiling(self) -> None:
        """Let the VAE take large pictures in overlapping tiles."""
        self.vae.enable_tiling()

    def disable_vae_tiling(self) -> None:
        """Let the VAE take pictures whole."""
        self.vae.disable_tiling()

    def _inverse(self) -> Any:
        """The inverse scheduler: the caller's, or one that is made anew whenever the scheduler is another one."""
        if self._inverse_made_from is not None and self._inverse_made_from is not self.scheduler:
            self.inverse_scheduler = None
        made = self.inverse_scheduler is None
        self.inverse_scheduler = inverse_of(self.scheduler, self.inverse_scheduler)
        if made:
            self._inverse_made_from = self.scheduler
        return self.inverse_scheduler

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

    @property
    def _networks(self) -> Networks:
        return Networks(
            self.vae,
            self.unet,
            self.safety_checker,
            self.feature_extractor,
            self.image_processor,
            bool(self.config.reference),
        )

    @property
    def _prompts(self) -> PromptEncoder:
        dtype = None if self.unet is None else self.unet.dtype
        return PromptEncoder(self.tokenizer, self.text_encoder, self.maybe_convert_prompt, dtype)
