"""What the stages of `DiffEditPipeline` share: checks, time steps, network, VAE and safety checker."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from diffusers.utils.torch_utils import randn_tensor
from numpy.typing import NDArray
from torch import Tensor

from ..method.denoise import guide
from ..method.inversion import OnLevel, Predict
from ..method.schedule import VariancePreservingSchedule
from .inputs import check_count, check_fraction, check_numbers, check_texts, paste
from .text import Texts
from .trajectory import encoding_steps, last_timesteps

Callback = Callable[[int, Any, Tensor], None]
Generators = torch.Generator | list[torch.Generator] | None


class PipelineParts:
    """Methods on the pipeline's components; the public ones are those of the old class."""

    vae: Any
    unet: Any
    scheduler: Any
    inverse_scheduler: Any
    safety_checker: Any
    feature_extractor: Any
    image_processor: Any
    vae_scale_factor: int
    config: Any
    _execution_device: torch.device
    progress_bar: Callable[..., Any]
    maybe_free_model_hooks: Callable[[], None]

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
        return self.inverse_scheduler.timesteps[:count], count

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
            if generator is not None or self.config.reference:
                deviation = torch.cat([each.std for each in posteriors]).repeat_interleave(copies, dim=0)
                draws = randn_tensor(latents.shape, generator=generator, device=latents.device, dtype=latents.dtype)
                latents = latents + deviation * draws
            latents = self.vae.config.scaling_factor * latents
        return latents.repeat(batch_size * copies // len(latents), 1, 1, 1)

    def _decode(self, latents: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1] of latents (B, C, h, w), one after the other, so that memory does not grow
        with B."""
        scaled = latents.to(self.vae.dtype) / self.vae.config.scaling_factor
        return torch.cat([self.vae.decode(each, return_dict=False)[0] for each in torch.split(scaled, 1)])

    def decode_latents(self, latents: Tensor) -> NDArray[np.float32]:
        """Pictures (B, H, W, 3) float32 in [0, 1] of latents (B, C, h, w)."""
        if len(latents) == 0:
            height, width = (side * self.vae_scale_factor for side in latents.shape[-2:])
            return np.zeros((0, height, width, 3), np.float32)
        return np.concatenate(
            [
                self.image_processor.pt_to_numpy(self.image_processor.denormalize(self._decode(each)))
                for each in torch.split(latents, 1)
            ]
        )

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

    def run_safety_checker(self, image: Any, device: Any, dtype: torch.dtype) -> tuple[Any, list[bool] | None]:
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

    def _show(
        self, latents: Tensor, picture: Tensor | None, mask: Tensor, dtype: torch.dtype
    ) -> tuple[Tensor, list[bool] | None]:
        """Pictures (N, 3, H, W) in [0, 1] of latents: the originals outside the mask, black where the checker
        objects."""
        shown = self.image_processor.denormalize(self._decode(latents))
        check_numbers(shown)
        if picture is not None and not self.config.reference:
            shown = paste(shown, picture.to(shown.device), mask)
        _, flagged = self.run_safety_checker(shown * 2 - 1, shown.device, dtype)
        for index, objected in enumerate(flagged or []):
            if objected:
                shown[index] = 0
        return shown, flagged

    def _pictures_as(self, output_type: str | None, pictures: Tensor) -> Any:
        """Pictures (N, 3, H, W) in [0, 1] as one of EDIT_OUTPUTS."""
        if output_type == "pt":
            return pictures
        array = self.image_processor.pt_to_numpy(pictures)
        return array if output_type == "np" else self.image_processor.numpy_to_pil(array)

    def _network(self, x: Tensor, t: Any, embeds: Tensor, cross_attention_kwargs: dict[str, Any] | None) -> Tensor:
        """The UNet's output for rows x (N, C, h, w) under embeds (N, L, D), in x's dtype whatever the UNet's is."""
        dtype = self.unet.dtype
        output = self.unet(
            x.to(dtype), t, encoder_hidden_states=embeds.to(dtype), cross_attention_kwargs=cross_attention_kwargs
        )
        return output.sample.to(x.dtype)

    def _predictor(
        self,
        scheduler: Any,
        embeds: Tensor,
        negative_embeds: Tensor | None,
        guidance_scale: float,
        cross_attention_kwargs: dict[str, Any] | None,
    ) -> Predict:
        """The guided prediction as a function of (x, t); without negatives the conditional one, at half the rows."""
        rows = embeds if negative_embeds is None else torch.cat([negative_embeds, embeds])

        def predict(x: Tensor, t: Any) -> Tensor:
            copies = len(rows) // len(x)
            output = self._network(
                scheduler.scale_model_input(torch.cat([x] * copies), t), t, rows, cross_attention_kwargs
            )
            if copies == 1:
                return output
            unconditional, conditional = output.chunk(2)
            return guide(unconditional, conditional, guidance_scale)

        return predict

    def _listener(self, bar: Any, timesteps: Tensor, callback: Callback | None, callback_steps: int) -> OnLevel:
        """Moves the progress bar and calls back every `callback_steps` steps."""

        def on_level(index: int, x: Tensor) -> None:
            bar.update()
            if callback is not None and index % callback_steps == 0:
                callback(index, timesteps[index], x)

        return on_level
