"""The editors by the names that `--editors` takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from diffedit_protocol.errors import BadInputError
from diffedit_protocol.messages import Method, Quality

from .editors import Editor

if TYPE_CHECKING:
    from diffedit_backend.models import LoadedModel

OURS = {
    "ours": "the engine's fast method at normal quality, the mask as it was found",
    "ours-draft": "the same at draft quality",
    "ours-fine": "the same at fine quality",
    "ours-paper": "the engine with the paper's settings",
    "ours-reference": "the engine with the library's settings",
    "ours-attention": "ours, a third of the soft map weighed by where the changed words look",
    "ours-align": "the engine's method without inversion (FlowAlign)",
    "ours-uni": "ours with the inversion Uni-Inv, whose samples move to the level that the network is told",
    "ours-aligned": "ours with every step of the edit evaluated beside the inversion's latents (DirectEdit)",
    "ours-product": "ours with the mask of LEDITS++: attention's best part times the difference",
    "ours-grown": "ours with the mask grown by half a latent cell",
    "ours-krita": "ours with the mask grown and feathered as the docker asks unless it is told otherwise",
    "ours-selection": "ours with the true mask as the artist's own: cropped and enlarged around it",
}
LIBRARIES = {
    "library": "diffusers' deprecated pipeline with its defaults",
    "library-tuned": "the same with the model's own guidance and an inversion without guidance",
}
CONTROLS = {
    "copy": "the source, unchanged",
    "true-mask": "ours with the true mask instead of the found one",
    "changed-mask": "ours with every place free that the true edit changes",
    "random-mask": "ours with a mask of the true one's area and shape, elsewhere",
    "no-inversion": "ours with random noise instead of the inversion",
    "whole-picture": "ours with no mask at all",
    "truth": "the true edit: how the judge errs",
    "truth-vae": "the true edit through the autoencoder: what it costs",
}
# What these change in the settings of inversion and edit.
SWITCHES: dict[str, dict[str, Any]] = {"ours-uni": {"inversion_rule": "uni"}, "ours-aligned": {"aligned": True}}
ATTENTION_SHARE = 0.35  # of 0.2, 0.35 and 0.5 none found better masks than another
KRITAS_GROW, KRITAS_FEATHER = 0.5, 0.375  # latent cells: the docker's 4 and 3 px of 512
NEED_TRUE_EDIT = ("changed-mask", "truth", "truth-vae")
ALL = {**OURS, **LIBRARIES, **CONTROLS}
DEFAULT = ("ours", "ours-reference", "library", "library-tuned", *CONTROLS)


def make_editors(names: Sequence[str], model: LoadedModel) -> list[Editor]:
    """The editors of these names on one model. Raises BadInputError for a name that is none."""
    unknown = [name for name in names if name not in ALL]
    if unknown:
        raise BadInputError(f"There is no editor {unknown[0]!r}. The editors are: {', '.join(ALL)}.")
    return [_make(name, model) for name in names]


def _make(name: str, model: LoadedModel) -> Editor:
    from diffedit_backend.method.engine import DiffEditEngine

    from .deprecated import LibraryEditor
    from .ours import (
        MASKS,
        Copy,
        EngineWithoutInversion,
        GivenMaskEditor,
        OurEditor,
        ProductMaskEngine,
        SwitchedEngine,
        Truth,
        TruthThroughAutoencoder,
        true_mask,
    )

    if name in LIBRARIES:
        return LibraryEditor(name, model, tuned=name == "library-tuned")
    if name == "copy":
        return Copy()
    if name == "truth":
        return Truth()
    if name == "truth-vae":
        return TruthThroughAutoencoder(model)
    if name == "no-inversion":
        return OurEditor(name, EngineWithoutInversion(model))
    if name in SWITCHES:
        return OurEditor(name, SwitchedEngine(model, **SWITCHES[name]))
    if name == "ours-product":
        return OurEditor(name, ProductMaskEngine(model))
    engine = DiffEditEngine(model)
    if name in MASKS:
        return GivenMaskEditor(name, engine, MASKS[name])
    methods: dict[str, Method] = {"ours-paper": "paper", "ours-reference": "reference", "ours-align": "align"}
    qualities: dict[str, Quality] = {"ours-draft": "draft", "ours-fine": "fine"}
    method, quality = methods.get(name, "fast"), qualities.get(name, "normal")
    asked: dict[str, Any] = {}
    if name == "ours-attention":
        asked = {"attention": ATTENTION_SHARE}
    elif name == "ours-grown":
        asked = {"grow": model.factor // 2}
    elif name == "ours-krita":
        grow, feather = round(KRITAS_GROW * model.factor), round(KRITAS_FEATHER * model.factor)
        asked = {"grow": grow, "feather": feather, "automatic_grow": True}
    return OurEditor(name, engine, method, quality, true_mask if name == "ours-selection" else None, **asked)
