"""Whether a model is what its settings say: its prediction type and its picture size.

A wrong prediction type gives grey or burnt pictures and no error. At the highest noise level a picture is nearly all
noise. A network that predicts the noise ("epsilon") must then answer with nearly its own input; one that predicts
velocity (arXiv 2202.00512) answers with nearly minus the picture.
"""

from __future__ import annotations

from typing import Any

import torch
from diffedit_protocol.errors import ModelError

from ..method.model import LoadedModel
from ..method.network import Network
from ..method.solvers import seeded_noise
from ..method.text import encode_text
from .catalogue.families import SD1, SD2, XL, family_of_width
from .sources import Parts

_CELLS = 16  # latent cells on a side: enough to tell, and quick on a CPU
# Correlation of output and input on noise. Measured: 0.15 for the bundled velocity model; in theory above 0.99 for a
# trained noise model, and alpha (0.07) for a velocity one.
_NOISE_MODEL = 0.8
_NO_NOISE_MODEL = 0.5
# Published base models of each family, by side in px. XL's distilled versions are made for 512 px.
_USUAL = {SD1: (512,), SD2: (512, 768), XL: (512, 768, 1024)}


def mistaken_prediction(model: LoadedModel) -> str:
    """A sentence for the artist when the model's prediction type looks wrong, else "". Takes one UNet evaluation."""
    if model.schedule.prediction_type == "flow":
        return ""  # noise - data, which is not told from the noise this way
    side = max(_CELLS, model.multiple // model.factor)
    like = torch.zeros(1, model.latent_channels, side, side, device=model.device)
    level = model.schedule.level_at(1.0, side**2)
    noise = seeded_noise(tuple(like.shape), 0, like)
    output = Network(model).predict(noise, level, [encode_text(model, "")])
    alike = float(torch.corrcoef(torch.stack((noise.flatten(), output.flatten())))[0, 1])
    stated = model.schedule.prediction_type
    if stated == "epsilon" and alike < _NO_NOISE_MODEL:
        found = "v_prediction"
    elif stated != "epsilon" and alike > _NOISE_MODEL:
        found = "epsilon"
    else:
        return ""
    return (
        f"The settings of the model '{model.name}' say {stated}, but it answers like a model of {found}. If its "
        f'pictures look wrong, write {{"prediction_type": "{found}"}} into diffedit.json in the model\'s folder.'
    )


def set_size(name: str, parts: Parts, wish: Any) -> None:
    """Hold a UNet to the size that it was made for; `wish`, in px, goes before its settings.

    Raises ModelError for settings or a wish without a usable size.
    """
    factor = 2 ** (len(parts.vae.config.block_out_channels) - 1)
    multiple = factor * 2 ** (len(parts.unet.config.block_out_channels) - 1)
    if wish is not None:
        if not isinstance(wish, int) or wish < multiple or wish % multiple:
            raise ModelError(
                f"The size {wish!r} in diffedit.json of {name!r} must be a multiple of {multiple} px, such as "
                f"{8 * multiple}."
            )
        parts.unet.register_to_config(sample_size=wish // factor)
    size = parts.unet.config.sample_size
    sides = size if isinstance(size, (list, tuple)) else [size]
    if not all(isinstance(side, int) and side > 0 for side in sides):
        raise ModelError(
            f"The settings of {name!r} do not say which size it was made for (sample_size is {size!r}). Write "
            '{"size": 512}, or what is right, into diffedit.json in the model\'s folder.'
        )


def doubtful_size(model: LoadedModel) -> str:
    """A sentence for the artist where the settings tell a size that no published model of its family has, else ""."""
    family = family_of_width(model.denoiser.config.cross_attention_dim)
    usual = _USUAL.get(family, ())
    if not usual or model.native_size in usual:
        return ""
    return (
        f"The settings of the model '{model.name}' say that it was made for {model.native_size} px; models of the kind "
        f"{family} are made for {' or '.join(map(str, usual))}. If its pictures look wrong, write "
        f'{{"size": {usual[-1]}}} into diffedit.json in the model\'s folder, else {{"size": {model.native_size}}}.'
    )
