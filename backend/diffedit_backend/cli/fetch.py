"""`diffedit fetch`: the result of a job on a running backend, as files; waits for a job that still runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import add_connect_argument, connection_of

if TYPE_CHECKING:
    from diffedit_protocol.client import Client
    from diffedit_protocol.messages import Manifest

    from ..imaging.files import PictureFile, Samples
    from ..outcome import EditOutcome

HELP = "fetch the result of a job on a running backend, see `diffedit jobs`"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB", help="the job, or how its name begins")
    parser.add_argument(
        "result",
        type=Path,
        metavar="OUT",
        nargs="?",
        help="where to write the result (OUT-1, OUT-2, ... for several); of a mask, the mask; nothing for words",
    )
    parser.add_argument(
        "--picture",
        type=Path,
        metavar="IN",
        help="the picture that was sent: the result is laid into it (default: on a transparent ground)",
    )
    parser.add_argument("--mask-out", type=Path, metavar="PNG", help="write the mask too")
    parser.add_argument(
        "--forget", action="store_true", help="let the backend forget the job when its files are written"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace files that are there already, whatever they are"
    )
    add_connect_argument(parser, "another backend than this machine's")
    parser.set_defaults(wrong_usage=parser.error)


def run(args: argparse.Namespace) -> int:
    from diffedit_protocol.client import Client

    from .pictures.outputs import read_input
    from .pictures.remote import fetch_outcome, watch
    from .terminal import ProgressLine, remark

    file = None if args.picture is None else read_input(args.picture)
    with Client(connection_of(args.connect or ""), software="diffedit fetch") as client:
        job = _job_named(client, args.job)
        with ProgressLine() as progress:
            manifest = watch(client, job, lambda step: progress.show(f"{step.stage} {step.step}/{step.total}"))
        if manifest.words:
            print("\n".join(manifest.words))
        else:
            ground = _ground(manifest, file)
            _check_outputs(args, manifest, ground)
            outcome = fetch_outcome(client, manifest)
            _write(args, job, manifest, outcome, ground)
            for warning in outcome.warnings:
                remark(warning.sentence)
        if args.forget:
            client.ack(job)
    return 0


def _job_named(client: Client, text: str) -> str:
    """The job of that name, or of the only one that begins so. Raises BadInputError."""
    from diffedit_protocol.errors import BadInputError

    names = [job.job for job in client.jobs()]
    found = [name for name in names if name == text] or [name for name in names if name.startswith(text)]
    if not found:
        raise BadInputError(f"None of your jobs there begins with '{text}'. See: diffedit jobs")
    if len(found) > 1:
        raise BadInputError(f"{len(found)} of your jobs there begin with '{text}'. See: diffedit jobs")
    return found[0]


def _paths(args: argparse.Namespace, manifest: Manifest) -> list[Path]:
    """Every file to be written: the results, or the mask of a search alone; then the mask where it is asked for."""
    if args.result is None:
        args.wrong_usage("OUT is needed: the job has a picture for a result")
    count = max(1, len(manifest.edits))
    results = [args.result.with_name(f"{args.result.stem}-{i + 1}{args.result.suffix}") for i in range(count)]
    results = [args.result] if count == 1 else results
    return results if args.mask_out is None else [*results, args.mask_out]


def _ground(manifest: Manifest, file: PictureFile | None) -> PictureFile:
    """What the result is laid into: the picture that was sent, or nothing at all. Raises BadInputError."""
    import numpy as np
    from diffedit_protocol.errors import BadInputError

    from ..imaging.files import PictureFile

    if manifest.mask is None:
        raise BadInputError("This job has no picture for a result. Leave OUT away to see its words.")
    width, height = manifest.mask.width, manifest.mask.height
    if file is None:
        empty = np.zeros((height, width, 4), np.uint8)
        return PictureFile(empty, empty)
    if file.size != (width, height):
        raise BadInputError(f"The picture is {file.size[0]} × {file.size[1]} px, but {width} × {height} px were sent.")
    return file


def _check_outputs(args: argparse.Namespace, manifest: Manifest, ground: PictureFile) -> None:
    """Raises BadInputError for files that cannot be written, or that would take the place of others."""
    from ..imaging.results import format_for
    from .pictures.outputs import Outputs, plane_file

    paths = _paths(args, manifest)
    for index, path in enumerate(paths):
        format_for(path, ground if index < len(manifest.edits) else plane_file(*ground.size))
    inputs = {} if args.picture is None else {args.picture: "picture"}
    Outputs(inputs, args.overwrite).check(paths, ground.samples.nbytes * len(paths))


def _write(args: argparse.Namespace, job: str, manifest: Manifest, outcome: EditOutcome, ground: PictureFile) -> None:
    from .. import __version__
    from ..imaging.results import format_for
    from .pictures.outputs import write_plane, write_result
    from .terminal import remark

    record = {"made_by": {"job": job, "model": manifest.model, "version": __version__}, "threshold": outcome.threshold}
    paths = _paths(args, manifest)
    for index, edit in enumerate(outcome.edits):
        format_ = format_for(paths[index], ground)
        samples = _laid_in(outcome, index, ground, with_picture=args.picture is not None)
        write_result(paths[index], format_, ground, samples, record | {"seed": edit.seed, "count": len(outcome.edits)})
        print(f"{paths[index]}  seed {edit.seed}")
        for sentence in format_.remarks(paths[index]):
            remark(sentence)
    masks = paths[len(outcome.edits) :]  # without edits OUT is the mask's own place
    for path in masks:
        write_plane(path, outcome.mask, record)
        print(path)


def _laid_in(outcome: EditOutcome, index: int, ground: PictureFile, *, with_picture: bool) -> Samples:
    from ..imaging.area import cut
    from ..imaging.files import lay_in
    from ..outcome import paste

    if with_picture:
        return lay_in(ground, paste(ground.pixels, outcome, index), outcome.mask)
    samples = ground.samples.copy()
    cut(samples, outcome.bounds)[...] = outcome.edits[index].pixels  # straight alpha: the mask's
    return samples
