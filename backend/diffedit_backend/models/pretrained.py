"""Networks of the libraries from files on this machine: safe weights, and all of them.

Where a file lacks weights, diffusers and transformers draw the missing ones at random and only log it: a model that
then answers nonsense. Here that is an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffedit_protocol.errors import ModelError
from safetensors import SafetensorError

# What the libraries raise on files that are absent, cut off, of other sizes, or no such files at all.
_DAMAGED = (OSError, ValueError, KeyError, RuntimeError, SafetensorError)
_NAMED = 3  # of the missing weights, in a sentence


@contextmanager
def damage_reported(what: str, name: str) -> Iterator[None]:
    """Within, what the libraries raise on bad files becomes a ModelError about the `what` `name`."""
    try:
        yield
    except _DAMAGED as error:
        raise ModelError(
            f"The {what} {name!r} is incomplete or damaged. Download it again.", detail=f"{error!r:.500}"
        ) from error


def pretrained(cls: Any, folder: Path, part: str = "", **options: Any) -> Any:
    """The network `cls` of diffusers or transformers from its .safetensors files in `folder`/`part`.

    Raises ValueError when the files lack weights of it; else what the library raises.
    """
    network, report = cls.from_pretrained(
        str(folder), subfolder=part, use_safetensors=True, local_files_only=True, output_loading_info=True, **options
    )
    if missing := sorted(report["missing_keys"]):
        first = ", ".join(missing[:_NAMED])
        raise ValueError(f"{part or cls.__name__} lacks {len(missing)} of its weights: {first}")
    return network
