"""The families of Stable Diffusion, told apart by the text embeddings that their networks look at."""

from __future__ import annotations

SD1, SD2, XL, OTHER = "SD 1", "SD 2", "SD XL", "other"
_BY_WIDTH = {768: SD1, 1024: SD2, 2048: XL}  # XL: 768 of its first text encoder and 1280 of its second, side by side


def family_of_width(width: int) -> str:
    """The family whose text embeddings have `width` numbers per token, "" for a width of none of them."""
    return _BY_WIDTH.get(width, "")
