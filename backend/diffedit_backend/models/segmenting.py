"""Finds what a text names in a picture, by CLIPSeg (arXiv 2112.10003) or SAM 3. Optional, loaded on demand.

A map of the words that an edit changes can be multiplied into DiffEdit's difference map, or stand in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any

import numpy as np
import torch
from diffedit_protocol.errors import BadInputError
from numpy.typing import NDArray
from PIL import Image

from ..method.memory import bytes_of
from ..method.wordings import wordings
from .catalogue.facts import read_json
from .catalogue.word_models import DEFAULT_SEGMENTER
from .load import quiet_libraries
from .standalone import Kind, load_standalone

_NETWORKS = {"clipseg": "CLIPSegForImageSegmentation", "sam3": "Sam3Model"}
_SEGMENTER = Kind(
    what="segmenter",
    example=DEFAULT_SEGMENTER,
    wanted="segmenter for words (CLIPSeg or SAM 3)",
    fits=lambda settings: settings.get("model_type") in _NETWORKS,
    network=lambda settings: _NETWORKS[settings["model_type"]],
    reader="AutoTokenizer",
)
# Of CLIPSeg and SAM 3 as published, where a folder's preprocessor_config.json lacks them.
_SIDE, _MEAN, _DEVIATION = 352, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_LITTLE = frozenset({"a", "an", "the", "on", "in", "of", "with", "and", "at", "is", "to", "by", "its"})


class SegmentingModel:
    """A segmenting network on its device, with its tokenizer and the way its pictures are prepared.

    side: px of the square that pictures are resized to; mean, deviation: of each channel, for values from 0 to 1.
    """

    def __init__(
        self,
        network: Any,
        tokenizer: Any,
        device: torch.device,
        side: int,
        mean: Sequence[float],
        deviation: Sequence[float],
    ) -> None:
        self._network = network
        self._tokenizer = tokenizer
        self._device = device
        self._side = side
        self._mean = torch.tensor(mean, device=device).reshape(1, 3, 1, 1)
        self._deviation = torch.tensor(deviation, device=device).reshape(1, 3, 1, 1)

    @property
    def nbytes(self) -> int:
        """Memory of the weights."""
        return bytes_of(self._network)

    @torch.inference_mode()
    def segment(self, pixels: NDArray[np.uint8], words: str) -> NDArray[np.uint8]:
        """Where the picture (H, W, 3) uint8 shows what the words name: (H, W) uint8, 0 for no and 255 for surely."""
        height, width = pixels.shape[:2]
        square = Image.fromarray(pixels).resize((self._side, self._side), Image.Resampling.BILINEAR)
        x = torch.from_numpy(np.array(square)).to(self._device).permute(2, 0, 1)[None].float() / 255
        x = ((x - self._mean) / self._deviation).to(next(self._network.parameters()).dtype)
        text = self._tokenizer(words, return_tensors="pt", truncation=True, **self._padding()).to(self._device)
        output = self._network(pixel_values=x, input_ids=text.input_ids, attention_mask=text.attention_mask)
        scores = output.logits if hasattr(output, "logits") else output.semantic_seg
        plane = torch.sigmoid(scores.float()).reshape(1, 1, *scores.shape[-2:])
        sized = torch.nn.functional.interpolate(plane, (height, width), mode="bilinear", align_corners=False)
        result: NDArray[np.uint8] = (sized[0, 0] * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
        return result

    def _padding(self) -> dict[str, Any]:
        """SAM 3 reads texts of one length, its text encoder's; CLIPSeg those of any."""
        if self._network.config.model_type == "clipseg":
            return {"padding": True}
        return {"padding": "max_length", "max_length": self._network.config.text_config.max_position_embeddings}


def load_segmenter(name: str = DEFAULT_SEGMENTER, device: str | None = None) -> SegmentingModel:
    """CLIPSeg or SAM 3 from a folder in transformers' layout or a hub id.

    Raises ModelError when its weights are not to be had, or are those of another kind of network.
    """
    quiet_libraries()
    network, tokenizer, chosen, folder = load_standalone(_SEGMENTER, name, device)
    file = folder / "preprocessor_config.json"
    settings = read_json(file) if file.is_file() else {}
    side = settings.get("size", {}).get("height") or getattr(network.config, "image_size", None) or _SIDE
    return SegmentingModel(
        network,
        tokenizer,
        chosen,
        int(side),
        settings.get("image_mean", _MEAN),
        settings.get("image_std", _DEVIATION),
    )


def changed_words(source: str, target: str) -> str:
    """The words of the first text that the second has not: what a segmenter is asked for.

    Of several wordings the first counts. Raises BadInputError where every word stays, so that nothing can be sought.
    """
    before, after = (wordings(text)[0].replace(",", " ").split() for text in (source, target))
    lower = [[word.casefold() for word in words] for words in (before, after)]
    blocks = SequenceMatcher(a=lower[0], b=lower[1], autojunk=False).get_opcodes()
    changed = [before[i] for kind, a, b, _, _ in blocks if kind in ("replace", "delete") for i in range(a, b)]
    while changed and changed[0].casefold() in _LITTLE:
        del changed[0]
    if not changed:
        raise BadInputError(
            "The segmenter looks for the words of the first text that the second changes, but every word stays. Say in "
            "the first text what is there, or leave the segmenter out."
        )
    return " ".join(changed)
