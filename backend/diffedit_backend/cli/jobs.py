"""`diffedit jobs`: this key's jobs on a running backend."""

from __future__ import annotations

import argparse
import dataclasses

from .arguments import add_connect_argument, connection_of
from .terminal import print_json

HELP = "list your jobs on a running backend, oldest first"
_LONGEST_TEXT = 40  # characters


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_connect_argument(parser, "another backend than this machine's")
    parser.add_argument("--json", action="store_true", help="write a JSON list")


def run(args: argparse.Namespace) -> int:
    from diffedit_protocol.client import Client

    with Client(connection_of(args.connect or ""), software="diffedit jobs") as client:
        jobs = client.jobs()
    if args.json:
        print_json([dataclasses.asdict(job) for job in jobs])
        return 0
    for job in jobs:
        words = f"{_short(job.source)} → {_short(job.target)}" if job.source or job.target else ""
        print(f"{job.job}  {job.state:9}  {_age(job.age_seconds):>6}  {words}".rstrip())
    if not jobs:
        print("You have no jobs there.")
    return 0


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"


def _age(seconds: float) -> str:
    minutes = int(seconds) // 60
    if minutes >= 60:
        return f"{minutes // 60} h"
    return f"{minutes} min" if minutes else f"{int(seconds)} s"
