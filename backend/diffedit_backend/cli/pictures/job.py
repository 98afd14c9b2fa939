"""`diffedit edit` and `diffedit mask`: files in, one edit in this process or on a running backend, files out."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from diffedit_protocol.messages import EditRequest
from numpy.typing import NDArray
from PIL import Image

from ...imaging.files import PictureFile, is_lossy, lay_in, read_picture, read_plane, write_picture
from ...method.steps import Step
from ...outcome import EditOutcome, paste
from .bulk import Ended, made_with
from .editor import Editor
from .record import write_record
from .table import BulkEdit, parameters_of

Plane = NDArray[np.uint8]


def run_edit(args: argparse.Namespace) -> int:
    """Edit a file; one result file for each strength and variation."""
    file = read_picture(args.picture)
    if args.suggest is not None:
        _take_suggestions(args)
    requests = [
        EditRequest(
            **_shared(args),
            negative=args.negative,
            strength=strength,
            guidance=args.guidance,
            seed=args.seed,
            variations=args.variations,
            detail=args.detail,
        )
        for strength in sorted(args.strength, reverse=True)  # the highest one's inversion holds those of the others
    ]
    mask, editor = _plane(args.mask, file), Editor(args)
    for request in requests:
        outcome = _outcome(args, editor, request, file, mask, args.inversion)
        several = f"-s{request.strength:g}" if len(requests) > 1 else ""
        _keep(args, request, file, outcome, args.result.with_name(f"{args.result.stem}{several}{args.result.suffix}"))
    return 0


def _keep(
    args: argparse.Namespace, request: EditRequest, file: PictureFile, outcome: EditOutcome, result: Path
) -> None:
    """Write what one request resulted in, and say it."""
    paths = _result_paths(result, len(outcome.edits))
    for index, (edit, path) in enumerate(zip(outcome.edits, paths, strict=True)):
        write_picture(path, file, lay_in(file, paste(file.pixels, outcome, index), outcome.mask))
        if path.suffix.lower() == ".png":
            write_record(path, _record(args, request, outcome, edit.seed, len(paths)))
        if not args.json:
            print(f"{path}  seed {edit.seed}")
        if is_lossy(path):
            _remark(f"{path.suffix} changes every pixel a little; .png keeps those outside of the mask as they were.")
    if file.is_grey:
        _remark("The picture is grey, and so is the result. Give it in colour to get colours.")
    for path, plane in ((args.mask_out, outcome.mask), (args.soft_map_out, outcome.soft_map)):
        if path is not None and plane is not None:
            _write_plane(path, plane, told=not args.json)
    if args.json:
        done = Ended(BulkEdit(args.picture, result, request), "done", tuple(paths), notes=_sentences(outcome, file))
        print(json.dumps(done.to_json(), ensure_ascii=False))
    else:
        _finish(outcome, file)


def _take_suggestions(args: argparse.Namespace) -> None:
    """Give both texts further wordings, and say them."""
    from ..suggest import suggested_texts

    args.source, args.target = suggested_texts(
        (args.source, args.target), args.suggest, args.suggester, args.seed, args.device
    )
    if not args.json:
        print(f"source: {args.source}\ntarget: {args.target}")


def _record(
    args: argparse.Namespace, request: EditRequest, outcome: EditOutcome, seed: int, count: int
) -> dict[str, object]:
    """What made a result, to be written into it."""
    made_by = {**parameters_of(request), **made_with(args)}
    if args.inversion is not None:
        made_by["inversion"] = args.inversion
    own = {"seed": seed, "threshold": outcome.threshold, "count": count, "picture": args.picture.name}
    return {"made_by": made_by, **own}


def run_mask(args: argparse.Namespace) -> int:
    """Write the mask of an edit."""
    file = read_picture(args.picture)
    outcome = _outcome(args, Editor(args), EditRequest(**_shared(args), task="mask"), file, None)
    _write_plane(args.mask_out, outcome.mask)
    if args.soft_map_out is not None and outcome.soft_map is not None:
        _write_plane(args.soft_map_out, outcome.soft_map)
    _finish(outcome, file)
    return 0


def _shared(args: argparse.Namespace) -> dict[str, Any]:
    names = ("source", "target", "threshold", "grow", "feather", "method", "quality", "matting", "attention")
    return {name: getattr(args, name) for name in names} | {"preview": False, "adapters": tuple(args.adapter)}


def _plane(path: Path | None, file: PictureFile) -> Plane | None:
    height, width = file.pixels.shape[:2]
    return None if path is None else read_plane(path, width, height)


def _outcome(
    args: argparse.Namespace,
    editor: Editor,
    request: EditRequest,
    file: PictureFile,
    mask: Plane | None,
    inversion: str | None = None,
) -> EditOutcome:
    selection = _plane(args.selection, file)
    report = _progress_line()
    return editor.edit(request, file.pixels, selection=selection, mask=mask, inversion=inversion, on_step=report)


def _progress_line() -> Callable[[Step], None]:
    """Rewrites one line on a terminal; silent elsewhere."""

    def report(step: Step) -> None:
        if sys.stderr.isatty():
            print(f"\r{step.stage} {step.step}/{step.total}\x1b[K", end="", file=sys.stderr, flush=True)

    return report


def _result_paths(path: Path, count: int) -> list[Path]:
    if count == 1:
        return [path]
    return [path.with_name(f"{path.stem}-{i + 1}{path.suffix}") for i in range(count)]


def _write_plane(path: Path, plane: Plane, *, told: bool = True) -> None:
    Image.fromarray(plane).save(path)
    if told:
        print(path)


def _finish(outcome: EditOutcome, file: PictureFile) -> None:
    share = np.count_nonzero(outcome.mask) / outcome.mask.size
    seconds = sum(outcome.seconds.values())
    print(
        f"{share:.1%} of the picture, threshold {outcome.threshold:.2f}, "
        f"{outcome.evaluations} evaluations, {seconds:.1f} s"
    )
    for sentence in _sentences(outcome, file):
        _remark(sentence)


def _sentences(outcome: EditOutcome, file: PictureFile) -> tuple[str, ...]:
    """What the person should know of a result."""
    return tuple(text for text in (file.remark, *(note.sentence for note in outcome.notes)) if text)


def _remark(sentence: str) -> None:
    print(f"diffedit: {sentence}", file=sys.stderr)
