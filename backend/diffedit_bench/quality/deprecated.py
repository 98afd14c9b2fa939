"""The deprecated DiffEdit pipeline of diffusers as an editor, with the very networks that our engine uses."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffedit_backend.method.schedule import variance_preserving
from diffedit_protocol.errors import BadInputError
from PIL import Image

from .cases import EditCase, Picture
from .editors import Edited, Instruments, Plane

if TYPE_CHECKING:
    from diffedit_backend.models import LoadedModel

STEPS = 50  # the library's default


DEFAULT_GUIDANCE = 7.5  # the library's default, for the mask, the inversion and the edit


class LibraryEditor:
    """`generate_mask`, `invert` and `__call__` of StableDiffusionDiffEditPipeline, one picture at a time.

    The mask is at the latents' resolution and hard; the picture is delivered as decoded. Both come back at the
    source's size, mask cells as squares. tuned: guidance as our engine has it and an inversion without guidance, the
    best that the pipeline's arguments allow, instead of its defaults.
    """

    takes_ratio = True

    def __init__(self, name: str, model: LoadedModel, tuned: bool) -> None:
        """Raises BadInputError for SDXL, which the library's pipeline never knew."""
        if model.is_xl:
            raise BadInputError(
                f"The library's DiffEdit knows Stable Diffusion 1 and 2 only, but {model.name!r} is SDXL. "
                f"Leave {name!r} out of --editors."
            )
        self.name = name
        self._model = model
        self._guidance = model.guidance if tuned else DEFAULT_GUIDANCE
        self._inversion_guidance = 1.0 if tuned else DEFAULT_GUIDANCE
        self._pipeline = _pipeline(model)

    def edit(self, case: EditCase, ratio: float) -> Edited:
        """One edit with the library's numbers of steps and maps, at strength `ratio`."""
        height, width = case.source.shape[:2]
        image = Image.fromarray(case.source)
        generator = torch.Generator().manual_seed(case.seed)
        common = {"num_inference_steps": STEPS, "generator": generator}
        with Instruments(self._model) as read:
            mask = self._pipeline.generate_mask(
                image=image,
                source_prompt=case.source_text,
                target_prompt=case.target_text,
                guidance_scale=self._guidance,
                **common,
            )
            trajectory = self._pipeline.invert(
                prompt=case.source_text,
                image=image,
                inpaint_strength=ratio,
                guidance_scale=self._inversion_guidance,
                **common,
            ).latents
            edited = self._pipeline(
                prompt=case.target_text,
                mask_image=mask.astype(np.float32),
                image_latents=trajectory,
                inpaint_strength=ratio,
                guidance_scale=self._guidance,
                output_type="pil",
                **common,
            ).images[0]
        picture = _sized(edited, width, height, Image.Resampling.BICUBIC)
        cells = Image.fromarray((mask[0] * 255).astype(np.uint8))
        plane: Plane = _sized(cells, width, height, Image.Resampling.NEAREST)
        return Edited(picture, plane, None, picture, read.evaluations, read.seconds, read.cpu_seconds)


def _sized(image: Image.Image, width: int, height: int, filter: Image.Resampling) -> Picture:
    """The library gives back less than it was given when a side is no multiple of the VAE's factor."""
    return np.asarray(image if image.size == (width, height) else image.resize((width, height), filter))


def _pipeline(model: LoadedModel) -> Any:
    from diffusers import DDIMInverseScheduler, DDIMScheduler, StableDiffusionDiffEditPipeline

    alphas_cumprod = np.array(variance_preserving(model.schedule).alphas_cumprod)
    betas = 1 - alphas_cumprod / np.concatenate([[1.0], alphas_cumprod[:-1]])
    scheduler = DDIMScheduler(
        num_train_timesteps=len(betas),
        trained_betas=betas,
        prediction_type=model.schedule.prediction_type,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        pipeline = StableDiffusionDiffEditPipeline(
            vae=model.vae,
            text_encoder=model.text_encoders[0],
            tokenizer=model.tokenizers[0],
            unet=model.denoiser,
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            inverse_scheduler=DDIMInverseScheduler.from_config(scheduler.config),
            requires_safety_checker=False,
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
