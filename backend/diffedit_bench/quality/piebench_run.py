"""`diffedit bench quality --pie-bench FOLDER`: the published columns for any model, in the published order."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from diffedit_protocol import __version__
from diffedit_protocol.errors import BadInputError
from PIL import Image

from .cases import Cases, EditCase
from .editors import Edited
from .piebench import PICTURES, pie_bench_cases, read_mapping
from .report import Column, dump, figures, table
from .roster import NEED_TRUE_EDIT, make_editors
from .rows import Row, RowFile
from .run import run_all

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
    from .piebench_metrics import score_pie_bench

    names = args.editors or DEFAULT_EDITORS
    if unfit := [name for name in names if name in NEED_TRUE_EDIT]:
        raise BadInputError(f"PIE-Bench knows no true edits, which {unfit[0]!r} needs. Leave it out of --editors.")
    cases = pie_bench_cases(args.pie_bench, args.seed)
    cases = Cases(cases.names[: args.cases], cases.load)
    model = load_model(args.model, device=args.device)
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
