"""Blobs to arrays and results to blobs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from diffedit_protocol.blobs import blob_id, pack_plane, unpack_picture, unpack_plane
from diffedit_protocol.events import MAX_PREVIEW_SIDE
from diffedit_protocol.messages import Bounds, EditResult, Manifest, PictureRef, PlaneRef, Preview

from ..outcome import EditOutcome
from ..types import Pixels
from .loop import Finished


def picture_of(ref: PictureRef, blobs: Mapping[str, bytes]) -> Pixels:
    """(H, W, 3 or 4) uint8. Raises SchemaError when the blob has another length."""
    raw = unpack_picture(ref, blobs[ref.blob])
    return np.frombuffer(raw, np.uint8).reshape(ref.height, ref.width, ref.channels)


def plane_of(ref: PlaneRef | None, blobs: Mapping[str, bytes]) -> Pixels | None:
    """(H, W) uint8, None for none. Raises SchemaError when the blob holds another number of bytes."""
    if ref is None:
        return None
    return np.frombuffer(unpack_plane(ref, blobs[ref.blob]), np.uint8).reshape(ref.height, ref.width)


def preview_of(pixels: Pixels) -> Preview:
    """A preview of (h, w, 3) uint8, thinned out to the size that may travel."""
    every = -(-max(pixels.shape[:2]) // MAX_PREVIEW_SIDE)
    thin = np.ascontiguousarray(pixels[::every, ::every])
    return Preview(thin.shape[1], thin.shape[0], thin.tobytes())


def finished(outcome: EditOutcome, model: str) -> Finished:
    """The manifest of an outcome and its blobs. `model`: the name that the client knows the model by."""
    blobs: dict[str, bytes] = {}

    def plane(pixels: Pixels) -> PlaneRef:
        height, width = pixels.shape
        ref, blob = pack_plane(np.ascontiguousarray(pixels).tobytes(), width, height)
        blobs[ref.blob] = blob
        return ref

    def picture(pixels: Pixels) -> PictureRef:
        height, width, channels = pixels.shape
        raw = np.ascontiguousarray(pixels).tobytes()
        ref = PictureRef(blob_id(raw), width, height, channels)
        blobs[ref.blob] = raw
        return ref

    bounds = outcome.bounds
    manifest = Manifest(
        mask=plane(outcome.mask),
        bounds=Bounds(bounds.x, bounds.y, bounds.width, bounds.height),
        threshold=outcome.threshold,
        soft_map=None if outcome.soft_map is None else plane(outcome.soft_map),
        edits=tuple(EditResult(edit.seed, picture(edit.pixels)) for edit in outcome.edits),
        model=model,
        evaluations=outcome.evaluations,
        seconds=dict(outcome.seconds),
        notes=tuple((warning.code, warning.sentence) for warning in outcome.warnings),
        ground=outcome.ground,
    )
    return Finished(manifest, blobs)
