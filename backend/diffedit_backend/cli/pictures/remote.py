"""One edit on a running backend, in the terms of `diffedit_backend.editing`: pictures in, an outcome out."""

from __future__ import annotations

import dataclasses

import numpy as np
from diffedit_protocol.blobs import pack_picture, pack_plane
from diffedit_protocol.client import Client
from diffedit_protocol.connection import Connection
from diffedit_protocol.errors import BusyError, CancelledError, SchemaError
from diffedit_protocol.messages import (
    Cancelled,
    Done,
    EditRequest,
    Failed,
    Manifest,
    PictureRef,
    PlaneRef,
    Preview,
    Progress,
)

from ...method.steps import OnStep, Step, ignore
from ...outcome import Edit, EditOutcome, EditWarning
from ...types import Pixels, Plane
from ..terminal import remark


def edit_on_backend(
    connection: Connection,
    request: EditRequest,
    picture: Pixels,
    *,
    selection: Plane | None = None,
    mask: Plane | None = None,
    on_step: OnStep = ignore,
) -> EditOutcome:
    """As `editing.edit_picture`, on a running backend. Raises every DiffEditError that the backend may answer with.

    What `on_step` raises, and Ctrl-C, cancel the job there. A backend that is full is asked again when it says.
    """
    request, blobs = _packed(request, picture, selection, mask)
    with Client(connection, software="diffedit command line") as client:
        job = client.submit(request, blobs, on_busy=BusyRemarks())
        try:
            manifest = watch(client, job, on_step)
        except BaseException:
            client.cancel(job)
            raise
        outcome = fetch_outcome(client, manifest)
        client.ack(job)
    return outcome


class BusyRemarks:
    """Remarks once for each refusal that the backend is full and when it is asked again; for `Client.submit`."""

    def __init__(self) -> None:
        self._remarked: BusyError | None = None

    def __call__(self, error: BusyError, seconds: float) -> None:
        if error is not self._remarked:
            self._remarked = error
            remark(f"{error.sentence} Trying again in {max(1, round(seconds))} s.")


def _packed(
    request: EditRequest, picture: Pixels, selection: Plane | None, mask: Plane | None
) -> tuple[EditRequest, dict[str, bytes]]:
    """The request with its references to pixels, and the pixels as blobs."""
    height, width, channels = picture.shape
    ref, raw = pack_picture(np.ascontiguousarray(picture).tobytes(), width, height, channels)
    blobs = {ref.blob: raw}

    def packed(plane: Plane | None) -> PlaneRef | None:
        if plane is None:
            return None
        plane_ref, blob = pack_plane(np.ascontiguousarray(plane).tobytes(), plane.shape[1], plane.shape[0])
        blobs[plane_ref.blob] = blob
        return plane_ref

    return dataclasses.replace(request, picture=ref, selection=packed(selection), mask=packed(mask)), blobs


def watch(client: Client, job: str, on_step: OnStep) -> Manifest:
    """The manifest of the job when it is done."""
    preview = None
    for event in client.events(job):
        if isinstance(event, Preview):
            preview = np.frombuffer(event.rgb, np.uint8).reshape(event.height, event.width, 3)
        elif isinstance(event, Progress):
            on_step(Step(event.stage, event.step, event.total, preview))
            preview = None
        elif isinstance(event, Failed):
            raise event.error
        elif isinstance(event, Cancelled):
            raise CancelledError("The job was cancelled.")
        elif isinstance(event, Done):
            return event.manifest
    raise AssertionError("A job's events end with its last one.")


def fetch_outcome(client: Client, manifest: Manifest) -> EditOutcome:
    def plane(ref: PlaneRef) -> Plane:
        return np.frombuffer(client.fetch(ref), np.uint8).reshape(ref.height, ref.width)

    def picture(ref: PictureRef) -> Pixels:
        return np.frombuffer(client.fetch(ref), np.uint8).reshape(ref.height, ref.width, ref.channels)

    if manifest.mask is None:
        raise SchemaError("The backend answered an edit without a mask. Update it.")
    return EditOutcome(
        mask=plane(manifest.mask),
        soft_map=None if manifest.soft_map is None else plane(manifest.soft_map),
        threshold=manifest.threshold,
        bounds=manifest.bounds,
        edits=tuple(Edit(edit.seed, picture(edit.pixels)) for edit in manifest.edits),
        evaluations=manifest.evaluations,
        seconds=manifest.seconds,
        warnings=tuple(EditWarning(code, sentence) for code, sentence in manifest.notes),
        ground=manifest.ground,
    )
