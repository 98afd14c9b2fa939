"""The competitors: the library's deprecated pipeline, our pipeline in its reference mode, our engine."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from diffedit_backend.editing import edit_picture
from diffedit_backend.method.engine import DiffEditEngine
from diffedit_protocol.messages import EditRequest
from numpy.typing import NDArray
from PIL import Image

from .subjects import Subject

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

    def __init__(self, method: str, subject: Subject) -> None:
        self.name = method
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
        return EditRequest(source=self._subject.source, target=self._subject.target, task="mask", method=self.name)

    def _cold(self, request: EditRequest) -> Result:
        self.engine = DiffEditEngine(self._subject.model)
        return self._run(request)

    def _run(self, request: EditRequest) -> Result:
        request = replace(request, method=self.name, strength=STRENGTH, preview=False)
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
            unet=model.unet,
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            inverse_scheduler=inverse,
            requires_safety_checker=False,
            **options,
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
