"""The figures of PIE-Bench as its evaluation computes them, quirks and all, and beside them what they leave out.

The published code blackens what it does not ask about (the edited part for background figures, the rest for the CLIP
score of the edited part) and then takes the mean over the whole frame. So background PSNR rises with the size of the
mask; `masked_psnr` takes the mean over the background's own pixels.
"""

from __future__ import annotations

import numpy as np
from skimage.metrics import structural_similarity

from .cases import EditCase, Picture, Region
from .editors import Edited
from .metrics import auroc, iou, mse, psnr
from .perceptual import Perceptual
from .piebench import scored_mask
from .rows import Row

_HALF = 128  # of 255


def score_pie_bench(case: EditCase, editor: str, ratio: float, edited: Edited, perceptual: Perceptual) -> Row:
    """One row; names of the scores are those of the published evaluation. None where weights are missing or no pixel
    is left.
    """
    assert case.mask is not None
    mask = scored_mask(case.mask)
    background = has_background(mask)
    source, result = case.source, edited.delivered
    scores: dict[str, float | None] = {
        "structure_distance": perceptual.structure and perceptual.structure(source, result),
        "psnr_unedit_part": published_psnr(source, result, ~mask) if background else None,
        "lpips_unedit_part": perceptual.lpips(kept(source, ~mask), kept(result, ~mask))
        if perceptual.lpips and background
        else None,
        "mse_unedit_part": published_mse(source, result, ~mask) if background else None,
        "ssim_unedit_part": published_ssim(source, result, ~mask) if background else None,
        "clip_similarity_source_image": perceptual.clip and perceptual.clip(source, case.source_text),
        "clip_similarity_target_image": perceptual.clip and perceptual.clip(result, case.target_text),
        "clip_similarity_target_image_edit_part": perceptual.clip
        and perceptual.clip(np.where(mask[..., None], result, np.uint8(0)), case.target_text),
        "masked_psnr": psnr(error) if (error := mse(source, result, ~mask)) is not None else None,
        "iou": iou(edited.mask >= _HALF, case.mask),
        "auroc": auroc(edited.mask if edited.soft_map is None else edited.soft_map, case.mask),
        "outside_exact": float(np.array_equal(result[edited.mask == 0], source[edited.mask == 0])),
        "evaluations": edited.evaluations,
        "seconds": edited.seconds,
    }
    return Row(case.name, case.kind, editor, ratio, scores)


def has_background(mask: Region) -> bool:
    return not mask.all()


def kept(picture: Picture, region: Region) -> np.ndarray:
    """The picture (H, W, 3) float32 in [0, 1], black outside of a region."""
    return picture.astype(np.float32) / 255 * region[..., None].astype(np.float32)


def published_mse(picture: Picture, other: Picture, region: Region) -> float:
    """Mean squared difference over the whole frame, both pictures black outside of the region."""
    difference = kept(picture, region).astype(np.float64) - kept(other, region).astype(np.float64)
    return float((difference**2).mean())


def published_psnr(picture: Picture, other: Picture, region: Region) -> float:
    """PSNR of `published_mse`, in dB; of pictures without a difference, infinite there, 100 dB here."""
    return psnr(published_mse(picture, other, region))


def published_ssim(picture: Picture, other: Picture, region: Region) -> float:
    """torchmetrics' StructuralSimilarityIndexMeasure as of the publication (1.2), data range 1, on blackened pictures.

    Gaussian windows of sigma 1.5, 11 px wide, mean over the places where they fit, which later versions no longer
    leave out.
    """
    return float(
        structural_similarity(
            kept(picture, region),
            kept(other, region),
            data_range=1.0,
            channel_axis=-1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )
