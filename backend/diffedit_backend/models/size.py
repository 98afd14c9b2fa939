"""The size in px of the pictures that a model was made for: from its settings, and doubted where it is unusual."""

from __future__ import annotations

from typing import Any

from diffedit_protocol.errors import ModelError

from ..method.model import LoadedModel
from .catalogue.families import SD1, SD2, XL, family_of_width
from .parts import Parts

# Published base models of each family, by side in px. XL's distilled versions are made for 512 px.
_USUAL = {SD1: (512,), SD2: (512, 768), XL: (512, 768, 1024)}


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
    family = family_of_width(model.unet.config.cross_attention_dim)
    usual = _USUAL.get(family, ())
    if not usual or model.native_size in usual:
        return ""
    return (
        f"The settings of the model '{model.name}' say that it was made for {model.native_size} px; models of the kind "
        f"{family} are made for {' or '.join(map(str, usual))}. If its pictures look wrong, write "
        f'{{"size": {usual[-1]}}} into diffedit.json in the model\'s folder, else {{"size": {model.native_size}}}.'
    )
