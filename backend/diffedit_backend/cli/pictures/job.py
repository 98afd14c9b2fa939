"""`diffedit edit` and `diffedit mask` of one picture: files in, one edit here or on a running backend, files out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from diffedit_protocol.messages import EditRequest

from ...imaging.files import PictureFile, lay_in, plane_of
from ...imaging.results import ResultFormat, format_for
from ...method.steps import Step
from ...outcome import EditOutcome, paste
from ...types import Plane
from ..arguments import STANDARD_STREAM
from ..terminal import ProgressLine, remark
from .editor import Editor
from .outputs import Outputs, Record, made_with, plane_file, read_input, write_plane, write_result
from .report import EditReport
from .table import parameters_of

_PLANE_OUTPUTS = ("mask_out", "soft_map_out")


def run_edit(args: argparse.Namespace) -> int:
    """Edit a file; one result file for each strength and variation."""
    file = read_input(args.picture)
    format_ = format_for(args.result, file)
    strengths = sorted(args.strength, reverse=True)  # the highest one's inversion holds those of the others
    results = {
        strength: _with_suffix(args.result, f"-s{strength:g}") if len(strengths) > 1 else args.result
        for strength in strengths
    }
    every = [path for result in results.values() for path in _possible_paths(result, args.variations)]
    _check_outputs(args, [*every, *_plane_paths(args)], file, len(strengths) * args.variations)
    if args.suggest is not None:
        _take_suggestions(args)
    mask, editor = _plane(args.mask, file), Editor(args)
    for strength, result in results.items():
        request = EditRequest(
            **_shared(args),
            negative=args.negative,
            strength=strength,
            guidance=args.guidance,
            seed=args.seed,
            variations=args.variations,
            detail=args.detail,
            blend=args.blend,
        )
        outcome = _outcome(args, editor, request, file, mask)
        _keep(args, request, file, format_, outcome, result)
    return 0


def _check_outputs(args: argparse.Namespace, paths: list[Path], file: PictureFile, results: int) -> None:
    """Everything that can be known before the work is refused before it. Raises BadInputError."""
    inputs = {args.picture: "picture", args.selection: "selection", getattr(args, "mask", None): "mask"}
    outputs = Outputs({path: kind for path, kind in inputs.items() if path is not None}, args.overwrite)
    for path in _plane_paths(args):
        format_for(path, plane_file(*file.size))
    outputs.check(paths, file.samples.nbytes * results)


def _plane_paths(args: argparse.Namespace) -> list[Path]:
    return [path for name in _PLANE_OUTPUTS if (path := getattr(args, name)) is not None]


def _keep(
    args: argparse.Namespace,
    request: EditRequest,
    file: PictureFile,
    format_: ResultFormat,
    outcome: EditOutcome,
    result: Path,
) -> None:
    """Write what one request resulted in, and report it."""
    paths = _result_paths(result, len(outcome.edits))
    lines = []
    for index, (edit, path) in enumerate(zip(outcome.edits, paths, strict=True)):
        samples = lay_in(file, paste(file.pixels, outcome, index), outcome.mask)
        record = _record(args, request, outcome) | {"seed": edit.seed, "count": len(paths)}
        write_result(path, format_, file, samples, record)
        lines.append(f"{path}  seed {edit.seed}")
    lines += _write_planes(args, request, outcome)
    sentences = [*file.remarks, *format_.remarks(args.result), *(warning.sentence for warning in outcome.warnings)]
    if file.is_grey:
        sentences.append("The picture is grey, and so is the result. Give it in colour to get colours.")
    if args.json:
        parameters = parameters_of(request)
        EditReport(args.picture, "done", tuple(paths), notes=tuple(sentences), parameters=parameters).print_json()
    else:
        _print_outcome(args.result, lines, outcome, sentences)


def _write_planes(args: argparse.Namespace, request: EditRequest, outcome: EditOutcome) -> list[str]:
    """Write mask and soft map where they are asked for; returns what to print."""
    lines = []
    for path, plane in ((args.mask_out, outcome.mask), (args.soft_map_out, outcome.soft_map)):
        if path is not None and plane is not None:
            write_plane(path, plane, _record(args, request, outcome))
            lines.append(str(path))
    return lines


def _take_suggestions(args: argparse.Namespace) -> None:
    """Give both texts further wordings, and print them."""
    from ..suggest import suggested_texts

    args.source, args.target = suggested_texts(
        (args.source, args.target), args.suggest, args.suggester, args.seed, args.device
    )
    if not args.json:
        print(f"source: {args.source}\ntarget: {args.target}", file=_stream_beside(args.result))


def _record(args: argparse.Namespace, request: EditRequest, outcome: EditOutcome) -> Record:
    """What made a result, to be written into it."""
    made_by = {**parameters_of(request), **made_with(args)}
    if getattr(args, "inversion", None) is not None:
        made_by["inversion"] = args.inversion
    return {"made_by": made_by, "threshold": outcome.threshold, "picture": args.picture.name}


def run_mask(args: argparse.Namespace) -> int:
    """Write the mask of an edit."""
    file = read_input(args.picture)
    _check_outputs(args, _plane_paths(args), file, 1)
    request = EditRequest(**_shared(args), task="mask")
    outcome = _outcome(args, Editor(args), request, file, None)
    lines = _write_planes(args, request, outcome)
    sentences = [*file.remarks, *(warning.sentence for warning in outcome.warnings)]
    if args.json:
        results, parameters = tuple(_plane_paths(args)), parameters_of(request)
        EditReport(args.picture, "done", results, notes=tuple(sentences), parameters=parameters).print_json()
    else:
        _print_outcome(args.mask_out, lines, outcome, sentences)
    return 0


def _shared(args: argparse.Namespace) -> dict[str, Any]:
    names = ("source", "target", "threshold", "grow", "feather", "method", "quality", "matting", "attention", "segment")
    model = (args.model or "") if args.connect is not None else ""
    fields = {name: getattr(args, name) for name in names}
    return fields | {"preview": False, "adapters": tuple(args.adapter), "model": model}


def _plane(path: Path | None, file: PictureFile) -> Plane | None:
    return None if path is None else plane_of(read_input(path), path.name, *file.size)


def _outcome(
    args: argparse.Namespace, editor: Editor, request: EditRequest, file: PictureFile, mask: Plane | None
) -> EditOutcome:
    selection = _plane(args.selection, file)
    with ProgressLine() as progress:

        def show(step: Step) -> None:
            progress.show(f"{step.stage} {step.step}/{step.total}")

        inversion = getattr(args, "inversion", None)
        return editor.edit(request, file.pixels, selection=selection, mask=mask, inversion=inversion, on_step=show)


def _with_suffix(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.stem}{suffix}{path.suffix}")


def _result_paths(path: Path, count: int) -> list[Path]:
    return [path] if count == 1 else [_with_suffix(path, f"-{i + 1}") for i in range(count)]


def _possible_paths(path: Path, variations: int) -> list[Path]:
    """Where results may come to lie: a method without chance gives one, whatever is asked for."""
    return [path] if variations == 1 else [path, *_result_paths(path, variations)]


def _stream_beside(result: Path) -> Any:
    """Standard output, or standard error where the result itself goes to standard output."""
    return sys.stderr if result == STANDARD_STREAM else sys.stdout


def _print_outcome(result: Path, lines: list[str], outcome: EditOutcome, sentences: list[str]) -> None:
    share = np.count_nonzero(outcome.mask) / outcome.mask.size
    seconds = sum(outcome.seconds.values())
    lines.append(
        f"{share:.1%} of the picture, threshold {outcome.threshold:.2f}, "
        f"{outcome.evaluations} evaluations, {seconds:.1f} s"
    )
    print("\n".join(lines), file=_stream_beside(result))
    for sentence in sentences:
        remark(sentence)
