"""From one edit of a case with known truth to one row of numbers."""

from __future__ import annotations

import numpy as np

from .cases import EditCase, Picture, Region
from .editors import Edited, pasted
from .metrics import another_pose, auroc, best_iou, boundary_f, iou, mse, seam, ssim_map, still_showing
from .run import Row

_HALF = 128  # of 255: soft masks count as masks from here on


def score(case: EditCase, editor: str, ratio: float, edited: Edited) -> Row:
    """All numbers of one edit.

    Masks are compared with the true mask. "inside" is where source and true edit differ, "outside" the rest: there
    the picture is compared with the source, as delivered, as decoded ("before" pasting) and as pasted ("after"),
    whichever of these the editor delivers. "ground" is where the true edit shows ground that a thing covered: "ground"
    scores look there inside of the editor's mask, but not where the new thing stands in another pose; "uncovered" also
    where the mask missed. "outside_exact" asks every pixel of the delivered picture where the
    editor's own mask is 0.
    """
    scores: dict[str, float | None] = {
        "outside_exact": float(np.array_equal(edited.delivered[edited.mask == 0], case.source[edited.mask == 0])),
        "area": float((edited.mask >= _HALF).mean()),
        "evaluations": edited.evaluations,
        "seconds": edited.seconds,
        "cpu_seconds": edited.cpu_seconds,
    }
    if case.succeeds is not None:
        scores["success"] = float(case.succeeds(edited.delivered))
    if case.mask is not None:
        soft_map = edited.mask if edited.soft_map is None else edited.soft_map
        scores["iou"] = iou(edited.mask >= _HALF, case.mask)
        scores["iou_best"] = best_iou(soft_map, case.mask)
        scores["auroc"] = auroc(soft_map, case.mask)
        scores["boundary_f"] = boundary_f(edited.mask >= _HALF, case.mask)
    if case.target is not None and case.changed is not None:
        scores |= _picture_scores("inside", edited.delivered, case.target, case.changed)
        scores |= _picture_scores("outside", edited.delivered, case.source, ~case.changed)
        if edited.decoded is not None:
            scores |= _picture_scores("outside_before", edited.decoded, case.source, ~case.changed)
            scores |= _picture_scores("outside_after", pasted(case, edited), case.source, ~case.changed)
        scores["seam"] = seam(edited.delivered, case.target, edited.mask >= _HALF)
    if case.target is not None and case.ground is not None and case.thing is not None:
        scores |= _ground_scores(case, edited, case.target, case.ground, case.thing)
    return Row(case.name, case.kind, editor, ratio, scores)


def _ground_scores(
    case: EditCase, edited: Edited, target: Picture, ground: Region, thing: Region
) -> dict[str, float | None]:
    excused = another_pose(edited.delivered, case.source, target, thing, ground)
    uncovered = ground & ~excused
    found = uncovered & (edited.mask >= _HALF)
    showing = still_showing(edited.delivered, case.source, target, uncovered) if uncovered.any() else None
    share, correlation = showing if showing is not None else (None, None)
    return {
        "ground_mse": mse(edited.delivered, target, found),
        "uncovered_mse": mse(edited.delivered, target, uncovered),
        "another_pose": float(excused.sum() / ground.sum()) if ground.any() else None,
        "ghost": share,
        "ghost_correlation": correlation,
    }


def _picture_scores(name: str, picture: Picture, truth: Picture, region: Region) -> dict[str, float | None]:
    similarity = ssim_map(picture, truth)
    return {
        f"{name}_mse": mse(picture, truth, region),
        f"{name}_ssim": float(similarity[region].mean()) if region.any() else None,
    }
