"""PIE-Bench from its folder, in the published layout (Ju et al., arXiv 2310.01506).

    FOLDER/mapping_file.json
        {key: {"image_path", "original_prompt", "editing_prompt", "editing_type_id", "mask", ...}}
    FOLDER/annotation_images/<image_path>
        512 x 512 pictures

Square brackets in a prompt mark what differs and are not meant to be read. A mask is a run-length code over the rows
of the picture: start, length, start, length, ..., 1 where the edit belongs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from diffedit_protocol import __version__
from diffedit_protocol.errors import BadInputError
from PIL import Image, UnidentifiedImageError
from skimage.metrics import structural_similarity

from .cases import Cases, EditCase, Picture, Region
from .editors import Edited
from .metrics import auroc, iou, mse, psnr
from .perceptual import Perceptual
from .report import Column, dump, figures, table
from .roster import NEED_TRUE_EDIT, make_editors
from .run import Row, RowFile, run_all

MAPPING, PICTURES = "mapping_file.json", "annotation_images"


EDITING_TYPES = {
    "0": "random",
    "1": "change object",
    "2": "add object",
    "3": "delete object",
    "4": "change content",
    "5": "change pose",
    "6": "change colour",
    "7": "change material",
    "8": "change background",
    "9": "change style",
}


def pie_bench_cases(folder: Path, seed: int) -> Cases:
    """Every edit of the folder, by its key, in the file's order. Masks are as drawn: `scored_mask` is what figures use.

    Raises BadInputError when the folder is not in the published layout.
    """
    mapping = read_mapping(folder)

    def load(name: str) -> EditCase:
        entry = mapping[name]
        picture = _read(folder / PICTURES / entry["image_path"])
        try:
            mask = decode_mask(entry["mask"], *picture.shape[:2])
        except ValueError as error:
            raise BadInputError(f"{folder / MAPPING}: the mask of {name!r} is broken: {error}") from error
        return EditCase(
            name=name,
            kind=EDITING_TYPES[entry["editing_type_id"]],
            source=picture,
            source_text=_without_brackets(entry["original_prompt"]),
            target_text=_without_brackets(entry["editing_prompt"]),
            seed=seed,
            mask=mask,
        )

    return Cases(tuple(mapping), load)


def read_mapping(folder: Path) -> dict[str, dict[str, Any]]:
    """The entries of the mapping file by key, checked to hold what an edit needs."""
    path = folder / MAPPING
    try:
        mapping: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadInputError(f"{path} is not there. Name the folder that holds {MAPPING} and {PICTURES}/.") from error
    except json.JSONDecodeError as error:
        raise BadInputError(f"{path} is no JSON: {error}") from error
    for key, entry in mapping.items():
        for name in ("image_path", "original_prompt", "editing_prompt", "editing_type_id", "mask"):
            if name not in entry:
                raise BadInputError(f"{path}: entry {key!r} has no {name!r}.")
        if entry["editing_type_id"] not in EDITING_TYPES:
            raise BadInputError(f"{path}: entry {key!r} has editing_type_id {entry['editing_type_id']!r}, not 0 to 9.")
    return mapping


def decode_mask(code: Sequence[int], height: int, width: int) -> Region:
    """The mask (H, W) of a run-length code. A run that leaves the picture ends there. Raises ValueError for a broken
    code.
    """
    if len(code) % 2:
        raise ValueError(f"it has {len(code)} numbers, but start and length come in pairs.")
    mask = np.zeros(height * width, bool)
    for start, length in zip(code[::2], code[1::2], strict=True):
        if start < 0 or length < 0:
            raise ValueError(f"a run starts at {start} and is {length} long.")
        mask[start : start + length] = True
    return mask.reshape(height, width)


def scored_mask(mask: Region) -> Region:
    """The mask that the published figures use: the picture's border counts as edited, since hand-drawn masks err
    there.
    """
    scored = mask.copy()
    scored[[0, -1], :] = True
    scored[:, [0, -1]] = True
    return scored


def _without_brackets(prompt: str) -> str:
    return prompt.replace("[", "").replace("]", "")


def _read(path: Path) -> Picture:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except FileNotFoundError as error:
        raise BadInputError(f"{path} is not there, though {MAPPING} names it.") from error
    except UnidentifiedImageError as error:
        raise BadInputError(f"{path} is no picture.") from error


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


DEFAULT_EDITORS = ("ours", "library")


# Titles, factors and order of table 1 in arXiv 2310.01506; report.json has the bare values.
PUBLISHED = (
    Column("structure_distance", "structure_distance", "structure distance × 10³", 2, -1, factor=1e3),
    Column("psnr_unedit_part", "psnr_unedit_part", "background PSNR", 2, +1),
    Column("lpips_unedit_part", "lpips_unedit_part", "background LPIPS × 10³", 2, -1, factor=1e3),
    Column("mse_unedit_part", "mse_unedit_part", "background MSE × 10⁴", 2, -1, factor=1e4),
    Column("ssim_unedit_part", "ssim_unedit_part", "background SSIM × 10²", 2, +1, factor=1e2),
    Column("clip_similarity_target_image", "clip_similarity_target_image", "CLIP, whole", 2, +1),
    Column(
        "clip_similarity_target_image_edit_part", "clip_similarity_target_image_edit_part", "CLIP, edited part", 2, +1
    ),
)


BESIDE = (
    Column("masked_psnr", "masked_psnr", "masked PSNR", 2, +1),
    Column("clip_similarity_source_image", "clip_similarity_source_image", "CLIP, source", 2, +1),
    Column("iou", "iou", "mask IoU", 3, +1),
    Column("auroc", "auroc", "AUROC", 3, +1),
    Column("outside_exact", "outside_exact", "outside exact", 3, +1),
    Column("evaluations", "evaluations", "UNet samples", 1, -1),
    Column("seconds", "seconds", "seconds", 2, -1),
)


# Which weights a column needs.
NEEDS = {
    "structure_distance": "structure",
    "lpips_unedit_part": "lpips",
    "clip_similarity_target_image": "clip",
    "clip_similarity_target_image_edit_part": "clip",
    "clip_similarity_source_image": "clip",
}


def run_pie_bench(args: argparse.Namespace) -> Path:
    """Run what is missing in `--out`, write the report there, and return the path of its Markdown."""
    from diffedit_backend.models import load_model

    from .perceptual import load_perceptual

    names = args.editors or DEFAULT_EDITORS
    if unfit := [name for name in names if name in NEED_TRUE_EDIT]:
        raise BadInputError(f"PIE-Bench knows no true edits, which {unfit[0]!r} needs. Leave it out of --editors.")
    cases = pie_bench_cases(args.pie_bench, args.seed)
    cases = Cases(cases.names[: args.cases], cases.load)
    model = load_model(args.model, args.device)
    perceptual = load_perceptual(model.device, args.fetch_weights)
    made_with = {
        "version": __version__,
        "model": model.name,
        "model_key": model.key,
        "seed": args.seed,
        "pie_bench": str(args.pie_bench.resolve()),
        "missing": perceptual.missing,
    }
    rows = RowFile(args.out, made_with)
    save = partial(_save, args.out, {key: entry["image_path"] for key, entry in read_mapping(args.pie_bench).items()})
    run_all(cases, make_editors(names, model), {}, rows, partial(score_pie_bench, perceptual=perceptual), save)
    wanted = set(cases.names)
    report = build([row for row in rows.rows.values() if row.case in wanted], names, made_with)
    (args.out / "report.json").write_text(dump(report))
    path: Path = args.out / "report.md"
    path.write_text("\n\n".join(_sections(report)) + "\n")
    return path


def _save(out: Path, paths: dict[str, str], case: EditCase, editor: str, edited: Edited) -> None:
    """Where the published evaluation looks for results, so that it can be run on them; lossless under whatever name."""
    path = out / editor / PICTURES / paths[case.name]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(edited.delivered).save(path, format="PNG")


def build(rows: Sequence[Row], editors: Sequence[str], facts: dict[str, Any]) -> dict[str, Any]:
    """Figures by editor, and by kind of edit; `facts` stand beside them."""
    columns = (*PUBLISHED, *BESIDE)
    by_editor = {name: [row for row in rows if row.editor == name] for name in editors}
    return {
        **facts,
        "columns": [column.name for column in PUBLISHED],
        "editors": {name: figures(found, columns) for name, found in by_editor.items()},
        "kinds": {
            kind: {name: figures([r for r in found if r.kind == kind], columns) for name, found in by_editor.items()}
            for kind in sorted({row.kind for row in rows})
        },
    }


def _sections(report: dict[str, Any]) -> list[str]:
    not_run = [
        f"* {column.title}: {report['missing'][NEEDS[column.name]]}"
        for column in (*PUBLISHED, *BESIDE)
        if NEEDS.get(column.name) in report["missing"]
    ]
    return [
        "# PIE-Bench",
        f"Model {report['model']!r}, seed {report['seed']}. Means with 95 % intervals by bootstrap over the cases. "
        "Background columns are computed as published, on frames blackened where the mask is; masked PSNR asks the "
        "background's pixels alone.",
        table(report["editors"], PUBLISHED),
        *(["\n".join(not_run)] if not_run else []),
        table(report["editors"], BESIDE),
        *(f"## {kind.capitalize()}\n\n{table(found, PUBLISHED)}" for kind, found in report["kinds"].items()),
    ]
