"""`diffedit samples`: pictures to try an edit on, and the table of words for all of them."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "write the sample pictures of the bundled model into a folder, to try edits on"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="where to write them; made if it is not there")


def run(args: argparse.Namespace) -> int:
    import csv
    import shutil

    from diffedit_protocol.errors import BadInputError

    from ..bundled import samples, samples_folder

    table = args.folder / "prompts.csv"
    files = [args.folder / sample.file for sample in samples()]
    for file in (*files, table):
        if file.exists():
            raise BadInputError(f"{file} is there already and is not written over. Choose another folder.")
    try:
        args.folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise BadInputError(f"{args.folder} is no folder. Choose another name.") from error
    for sample, file in zip(samples(), files, strict=True):
        shutil.copyfile(samples_folder() / sample.file, file)
        print(f"{file}  {sample.source} → {sample.target}")
    with table.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(("file", "source", "target"))
        writer.writerows((sample.file, sample.source, sample.target) for sample in samples())
    print(f"{table}  these words, for `diffedit edit {args.folder} OUT --csv {table}`")
    return 0
