"""What is timed: one model and one edit of one picture at the model's size."""

from __future__ import annotations

import platform
import time
import warnings
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffedit_backend.editing import edit_picture
from diffedit_backend.method.engine import DiffEditEngine
from diffedit_backend.method.schedule import VariancePreservingSchedule, variance_preserving
from diffedit_backend.models import LoadedModel, ModelOptions, load_model, use_threads
from diffedit_backend.models.device import choose_device, choose_dtype, compiled_unet
from diffedit_backend.models.options import Precision
from diffedit_protocol.messages import EditRequest, Method
from numpy.typing import NDArray
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

if TYPE_CHECKING:
    from diffusers import DDIMInverseScheduler, DDIMScheduler

# Dense matrix arithmetic with 16-bit inputs, in TFLOP/s, from the makers' data sheets.
PEAK_TFLOPS = {"H200": 989.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0, "L4": 121.0, "4090": 165.2, "3090": 71.0}


# Where `diffedit bench quality` begins to count held-out scenes.
_SCENE = 700_000_000


@dataclass(frozen=True, eq=False)
class Subject:
    """A model and what it is asked for. `picture`: (H, W, 3) uint8 at the model's size."""

    size: str
    model: LoadedModel
    picture: NDArray[np.uint8]
    source: str
    target: str
    second_target: str

    @property
    def device_name(self) -> str:
        if self.model.device.type == "cuda":
            return str(torch.cuda.get_device_name(self.model.device))
        return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"

    @property
    def peak_tflops(self) -> float | None:
        """What the device can do at most at 16 bit, where that is known."""
        if self.model.device.type != "cuda" or self.model.dtype == torch.float32:
            return None
        return next((peak for name, peak in PEAK_TFLOPS.items() if name in self.device_name), None)

    def tflop_per_evaluation(self) -> float:
        """Arithmetic of one sample through the UNet, counted while it runs."""
        # A compiled network is counted as it was written: its own kernels are not known to the counter.
        plain = getattr(self.model.denoiser, "_orig_mod", self.model.denoiser)
        model = replace(self.model, denoiser=plain, compiled=False)
        height, width = (side // model.factor for side in self.picture.shape[:2])
        x = torch.zeros(1, model.latent_channels, height, width, device=model.device)
        engine = DiffEditEngine(model)
        level = model.schedule.level_at(0.5, height * width)
        with FlopCounterMode(display=False) as counter:
            engine.network.predict(x, level, [engine.text(self.source)])
        return float(counter.get_total_flops()) / 1e12

    @property
    def has_library_side(self) -> bool:
        """Whether the library's class can edit with this model: it never knew XL, nor flow models."""
        return not self.model.is_xl and self.model.schedule.prediction_type != "flow"

    def schedulers(self) -> tuple[DDIMScheduler, DDIMInverseScheduler]:
        """DDIM and its inverse on the model's noise schedule, as the library's guide for DiffEdit sets them up."""
        from diffusers import DDIMInverseScheduler, DDIMScheduler

        alphas_cumprod = np.array(variance_preserving(self.model.schedule).alphas_cumprod)
        scheduler = DDIMScheduler(
            num_train_timesteps=len(alphas_cumprod),
            trained_betas=1 - alphas_cumprod / np.concatenate([[1.0], alphas_cumprod[:-1]]),
            prediction_type=self.model.schedule.prediction_type,
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        )
        return scheduler, DDIMInverseScheduler.from_config(scheduler.config)


def load_subject(size: str, device: str | None, dtype: Precision | None, compiled: bool) -> Subject:
    """The subject of `diffedit bench speed --size`."""
    if size == "bundled":
        model = load_model("bundled", ModelOptions(device, dtype, compiled=compiled))
        use_threads(model)
        return _bundled(model)
    model = _random_model(size, device, dtype, compiled)
    use_threads(model)
    side = model.native_size
    y, x = np.mgrid[0:side, 0:side] / side
    pixels = np.stack([x, y, 1 - x * y], axis=-1)
    pixels[(x - 0.5) ** 2 + (y - 0.4) ** 2 < 0.05] = (0.9, 0.2, 0.1)
    picture = (pixels * 255).round().astype(np.uint8)
    return Subject(size, model, picture, "a red ball", "a green apple", "a blue cup")


def _bundled(model: LoadedModel) -> Subject:
    """The first held-out scene with one thing in it; the second target is that with another thing in its place."""
    from diffedit_training.scenes.art import CLASSES
    from diffedit_training.scenes.scenes import Scenes

    pair = Scenes(size=model.native_size, split="heldout").pair(_SCENE, "swap")
    assert pair.subject is not None  # a swap has one
    new = pair.subject.name
    other = next(name for name in CLASSES if name != new and name not in pair.source_caption)
    return Subject(
        "bundled",
        model,
        pair.source,
        pair.source_caption,
        pair.target_caption,
        pair.target_caption.replace(new, other),
    )


def _random_model(size: str, wished_device: str | None, wished_dtype: Precision | None, compiled: bool) -> LoadedModel:
    from .models import FLOW_SIZES, random_components, random_flow_model

    device = choose_device(wished_device)
    if size in FLOW_SIZES:
        bf16 = wished_dtype is None and device.type != "cpu"
        precision = torch.bfloat16 if bf16 else choose_dtype(wished_dtype, device)
        return random_flow_model(size, device, precision, compiled=compiled)
    dtype = choose_dtype(wished_dtype, device)
    parts: dict[str, Any] = random_components(size, dtype, device)
    unet = parts["unet"].to(memory_format=torch.channels_last)
    return LoadedModel(
        name=f"random {size}",
        key=f"random-{size}",
        denoiser=compiled_unet(unet, device) if compiled else unet,
        vae=parts["vae"].to(memory_format=torch.channels_last),
        tokenizers=tuple(parts[name] for name in ("tokenizer", "tokenizer_2") if name in parts),
        text_encoders=tuple(parts[name] for name in ("text_encoder", "text_encoder_2") if name in parts),
        schedule=VariancePreservingSchedule.from_scheduler(parts["scheduler"]),
        device=device,
        dtype=dtype,
        compiled=compiled,
    )


STRENGTH = 0.8


VARIATIONS = 4


@dataclass
class Result:
    """What one run of a scenario gave. seconds: by stage. mask: (H, W) of 0 and 1 or 0..255. pictures: uint8."""

    seconds: dict[str, float] = field(default_factory=dict)
    mask: NDArray[Any] | None = None
    pictures: list[NDArray[np.uint8]] = field(default_factory=list)


class PipelineSide:
    """Edits through the interface of the library's class, that one or ours, as its guide does: three calls each."""

    def __init__(self, name: str, subject: Subject, steps: int) -> None:
        self.name = name
        self._subject = subject
        self._steps = steps
        self._pipeline = _pipeline(name, subject)
        self._trajectory: Any = None

    def first_edit(self) -> Result:
        return self._three_calls(self._subject.target, 1)

    def second_target(self) -> Result:
        return self._three_calls(self._subject.second_target, 1)

    def second_target_inversion_kept(self) -> Result:
        """What a caller saves who knows that the inversion depends on the source text only."""
        result = Result()
        self._mask(result, self._subject.second_target)
        self._edit(result, self._subject.second_target, 1)
        return result

    def four_variations(self) -> Result:
        return self._three_calls(self._subject.target, VARIATIONS)

    def find_mask(self) -> Result:
        result = Result()
        self._mask(result, self._subject.target)
        return result

    def _three_calls(self, target: str, count: int) -> Result:
        result = Result()
        self._mask(result, target)
        self._invert(result)
        self._edit(result, target, count)
        return result

    def _mask(self, result: Result, target: str) -> None:
        with _stage(result, "finding", self._subject):
            result.mask = self._pipeline.generate_mask(
                image=Image.fromarray(self._subject.picture),
                source_prompt=self._subject.source,
                target_prompt=target,
                num_inference_steps=self._steps,
                generator=torch.Generator().manual_seed(0),
            )[0]

    def _invert(self, result: Result) -> None:
        with _stage(result, "inverting", self._subject):
            self._trajectory = self._pipeline.invert(
                prompt=self._subject.source,
                image=Image.fromarray(self._subject.picture),
                num_inference_steps=self._steps,
                inpaint_strength=STRENGTH,
                generator=torch.Generator().manual_seed(0),
            ).latents

    def _edit(self, result: Result, target: str, count: int) -> None:
        with _stage(result, "editing", self._subject):
            images = self._pipeline(
                prompt=target,
                mask_image=np.asarray(result.mask, np.float32),
                image_latents=self._trajectory,
                num_inference_steps=self._steps,
                inpaint_strength=STRENGTH,
                num_images_per_prompt=count,
                eta=0.0 if count == 1 else 1.0,  # without fresh noise all variations would be the same
                generator=torch.Generator().manual_seed(0),
            ).images
        result.pictures = [np.asarray(image) for image in images]


class EngineSide:
    """Edits through `edit_picture`, as the worker does, with one of the engine's methods."""

    def __init__(self, method: Method, subject: Subject) -> None:
        self.name: str = method
        self._method = method
        self._subject = subject
        self.engine = DiffEditEngine(subject.model)

    def first_edit(self) -> Result:
        return self._cold(EditRequest(source=self._subject.source, target=self._subject.target))

    def second_target(self) -> Result:
        return self._run(EditRequest(source=self._subject.source, target=self._subject.second_target))

    def four_variations(self) -> Result:
        request = EditRequest(source=self._subject.source, target=self._subject.target, variations=VARIATIONS)
        return self._cold(request)

    def find_mask(self) -> Result:
        return self._cold(self.mask_request())

    def mask_request(self) -> EditRequest:
        """The request for a mask alone."""
        return EditRequest(source=self._subject.source, target=self._subject.target, task="mask", method=self._method)

    def _cold(self, request: EditRequest) -> Result:
        self.engine = DiffEditEngine(self._subject.model)
        return self._run(request)

    def _run(self, request: EditRequest) -> Result:
        request = replace(request, method=self._method, strength=STRENGTH, preview=False)
        outcome = edit_picture(self.engine, request, self._subject.picture)
        return Result(dict(outcome.seconds), outcome.mask, [edit.pixels for edit in outcome.edits])


class _stage:
    """Adds the seconds inside to a result, the device's queue included."""

    def __init__(self, result: Result, name: str, subject: Subject) -> None:
        self._result, self._name, self._subject = result, name, subject

    def __enter__(self) -> None:
        synchronise(self._subject)
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        synchronise(self._subject)
        self._result.seconds[self._name] = time.perf_counter() - self._start


def synchronise(subject: Subject) -> None:
    """Wait until the device has done what it was given."""
    if subject.model.device.type == "cuda":
        torch.cuda.synchronize(subject.model.device)


def _pipeline(name: str, subject: Subject) -> Any:
    from diffedit_backend.pipeline.pipeline import DiffEditPipeline
    from diffusers import StableDiffusionDiffEditPipeline

    model = subject.model
    scheduler, inverse = subject.schedulers()
    options: dict[str, Any] = {"reference": True} if name == "reference" else {}
    kind = DiffEditPipeline if name == "reference" else StableDiffusionDiffEditPipeline
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        pipeline = kind(
            vae=model.vae,
            text_encoder=model.text_encoders[0],
            tokenizer=model.tokenizers[0],
            unet=model.denoiser,
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            inverse_scheduler=inverse,
            requires_safety_checker=False,
            **options,
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
