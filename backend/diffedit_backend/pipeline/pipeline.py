"""`DiffEditPipeline`: the interface of diffusers' StableDiffusionDiffEditPipeline on this project's own DiffEdit.

The stages are those of the paper (Couairon et al., arXiv 2210.11427): `generate_mask` finds where two texts disagree
about a picture, `invert` encodes the picture into noise, calling the pipeline edits it inside the mask. docs/faults.md
tells where results differ from the old class, and why.
"""

import logging

from diffusers import AutoencoderKL, DDIMInverseScheduler, UNet2DConditionModel
from diffusers.configuration_utils import FrozenDict
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.pipeline_utils import DiffusionPipeline, StableDiffusionMixin
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from diffusers.schedulers import KarrasDiffusionSchedulers
from transformers import CLIPImageProcessor, CLIPTextModel, CLIPTokenizer

from .edit import EditStage
from .inversion import DiffEditInversionPipelineOutput, InversionStage
from .mask import MaskStage

__all__ = ["DiffEditInversionPipelineOutput", "DiffEditPipeline"]

logger = logging.getLogger(__name__)


class DiffEditPipeline(MaskStage, InversionStage, EditStage, DiffusionPipeline, StableDiffusionMixin):
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

    model_cpu_offload_seq = "text_encoder->unet->vae"
    _optional_components = ["safety_checker", "feature_extractor", "inverse_scheduler"]  # noqa: RUF012
    _exclude_from_cpu_offload = ["safety_checker"]  # noqa: RUF012

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
