"""The values that cross the wire: what an edit is asked for with, what is told while it runs, and what it results in.

Every value is a frozen dataclass with `to_wire()` (a dict of msgpack types) and `from_wire()`, which raises SchemaError
with the field's name and value. Pixels never stand here: they travel as blobs, named by the sha256 of their bytes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from dataclasses import fields as fields_of
from typing import Any, Literal, get_args

from .errors import DiffEditError, SchemaError
from .schema import from_map, to_map

Task = Literal["mask", "edit", "describe", "suggest"]
Quality = Literal["draft", "normal", "fine"]
Method = Literal["fast", "paper", "reference", "align"]
Segment = Literal["", "multiply", "replace"]
Stage = Literal["loading", "encoding", "finding", "edges", "inverting", "editing", "decoding"]
TASKS: tuple[Task, ...] = get_args(Task)
QUALITIES: tuple[Quality, ...] = get_args(Quality)
METHODS: tuple[Method, ...] = get_args(Method)
SEGMENTS: tuple[Segment, ...] = get_args(Segment)
STAGES: tuple[Stage, ...] = get_args(Stage)
MAX_PROMPT_CHARACTERS = 4000
MAX_VARIATIONS = 16
MAX_SIDE = 65_535  # px; hello's limits are tighter
MAX_NAME_CHARACTERS = 200
_SHA256 = re.compile(r"[0-9a-f]{64}")


def check_blob_id(blob: str) -> None:
    """Raises SchemaError unless `blob` is a sha256 in 64 lower-case hexadecimal digits."""
    if not _SHA256.fullmatch(blob):
        raise SchemaError(f"A blob is named by 64 lower-case hexadecimal digits, not {blob!r:.80}.")


def _check_raster(what: str, blob: str, width: int, height: int) -> None:
    check_blob_id(blob)
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise SchemaError(f"{what} must be 1 to {MAX_SIDE} px wide and high, not {width} × {height}.")


@dataclass(frozen=True)
class Bounds:
    """A rectangle in px of the sent picture: left, top, width, height. Empty when width or height is 0."""

    x: int
    y: int
    width: int
    height: int

    @property
    def empty(self) -> bool:
        return self.width <= 0 or self.height <= 0

    @property
    def right(self) -> int:
        return self.x + self.width

    @property
    def bottom(self) -> int:
        return self.y + self.height

    @property
    def pixels(self) -> int:
        """How many there are."""
        return self.width * self.height

    def __and__(self, other: Bounds) -> Bounds:
        """What both cover; empty with width and height 0."""
        x, y = max(self.x, other.x), max(self.y, other.y)
        width, height = min(self.right, other.right) - x, min(self.bottom, other.bottom) - y
        return Bounds(x, y, width, height) if width > 0 and height > 0 else Bounds(x, y, 0, 0)

    def grown(self, px: int) -> Bounds:
        """With a margin of `px` on every side."""
        return Bounds(self.x - px, self.y - px, self.width + 2 * px, self.height + 2 * px)

    def moved(self, dx: int, dy: int) -> Bounds:
        return Bounds(self.x + dx, self.y + dy, self.width, self.height)

    def strips(self, pixels: int) -> Iterator[Bounds]:
        """This rectangle from top to bottom in strips of full width and about `pixels` px each."""
        rows = max(1, pixels // max(1, self.width))
        for y in range(self.y, self.bottom, rows):
            yield Bounds(self.x, y, self.width, min(rows, self.bottom - y))


@dataclass(frozen=True)
class PictureRef:
    """A picture as a blob: raw 8-bit sRGB, RGB or RGBA (straight alpha) by `channels`, rows top to bottom, unpadded."""

    blob: str
    width: int
    height: int
    channels: int

    def __post_init__(self) -> None:
        _check_raster("A picture", self.blob, self.width, self.height)
        if self.channels not in (3, 4):
            raise SchemaError(f"A picture has 3 (RGB) or 4 (RGBA) channels, not {self.channels}.")

    @property
    def size(self) -> int:
        """Bytes of the raw pixels."""
        return self.width * self.height * self.channels


@dataclass(frozen=True)
class PlaneRef:
    """One 8-bit channel (selection, mask, soft map), 0..255, row by row; `packed`: the blob is zlib-compressed."""

    blob: str
    width: int
    height: int
    packed: bool = True

    def __post_init__(self) -> None:
        _check_raster("A plane", self.blob, self.width, self.height)

    @property
    def size(self) -> int:
        """Bytes of the raw, unpacked plane."""
        return self.width * self.height


@dataclass(frozen=True)
class Adapter:
    """A LoRA or a textual inversion of the backend's folder, by name, with its weight."""

    name: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < len(self.name) <= MAX_NAME_CHARACTERS or self.name.startswith(".") or set(self.name) & set("/\\\0:"):
            raise SchemaError(f"An adapter is named without a path, not {self.name!r:.80}.")
        if not (math.isfinite(self.weight) and -4.0 <= self.weight <= 4.0):
            raise SchemaError(f"The weight of adapter {self.name!r} must be -4 to 4, not {self.weight!r}.")


@dataclass(frozen=True)
class EditRequest:
    """Everything that matters to one edit. Lengths are px of the sent picture.

    `picture` is None until the pixels are known to the client. `selection` limits search and edit; `mask` is used as it
    is, with no search. The task "describe" asks for words on the picture, or on what is selected; its texts may be
    empty. The task "suggest" needs no picture: it asks for as many further wordings of `source` as `variations` says.
    `threshold` in (0, 1) or None for the automatic one; `grow` may be negative, and with `automatic_grow` is that of a
    thing's mask: a ground's is not grown over what stands on it. `strength` is the encoding
    ratio in (0, 1]; `guidance` None takes the model's default. The seed of variation i is `seed + i`.
    `detail` draws an edit that is larger than the model's pictures at the picture's own resolution.
    `matting` makes the edge of the mask an alpha matte. `blend` joins the colours of the edit to
    the picture around the mask; None takes the method's. `attention`: share, 0 to 1, of a searched mask's soft map that
    is weighed by where the changed words look; None takes the method's. `segment`: a segmenter's map of the words that
    change is multiplied into the difference map ("multiply") or stands in its place ("replace").
    """

    source: str
    target: str
    task: Task = "edit"
    negative: str = ""
    picture: PictureRef | None = None
    selection: PlaneRef | None = None
    mask: PlaneRef | None = None
    threshold: float | None = None
    grow: int = 0
    feather: int = 0
    strength: float = 0.8
    guidance: float | None = None
    quality: Quality = "normal"
    method: Method = "fast"
    seed: int = 0
    variations: int = 1
    model: str = ""
    adapters: tuple[Adapter, ...] = ()
    preview: bool = True
    detail: bool = False
    matting: bool = False
    attention: float | None = None
    blend: bool | None = None
    segment: Segment = ""
    automatic_grow: bool = False

    def __post_init__(self) -> None:
        def check(ok: bool, name: str, what: str) -> None:
            if not ok:
                raise SchemaError(f"{name} must be {what}, not {getattr(self, name)!r}.")

        for name in ("source", "target", "negative"):
            check(
                len(getattr(self, name)) <= MAX_PROMPT_CHARACTERS, name, f"at most {MAX_PROMPT_CHARACTERS} characters"
            )
        check(self.task in TASKS, "task", f"one of {', '.join(TASKS)}")
        check(self.quality in QUALITIES, "quality", f"one of {', '.join(QUALITIES)}")
        check(self.method in METHODS, "method", f"one of {', '.join(METHODS)}")
        check(
            self.threshold is None or 0.0 < self.threshold < 1.0, "threshold", "between 0 and 1, or empty for automatic"
        )
        check(0.0 < self.strength <= 1.0, "strength", "above 0 and at most 1")
        check(
            self.guidance is None or (math.isfinite(self.guidance) and 0.0 <= self.guidance <= 50.0),
            "guidance",
            "0 to 50",
        )
        check(self.attention is None or 0.0 <= self.attention <= 1.0, "attention", "0 to 1, or empty for the method's")
        check(self.segment in SEGMENTS, "segment", "multiply, replace or empty")
        check(-4096 <= self.grow <= 4096, "grow", "-4096 to 4096 px")
        check(0 <= self.feather <= 4096, "feather", "0 to 4096 px")
        check(0 <= self.seed < 2**32, "seed", "0 to 4294967295")
        check(1 <= self.variations <= MAX_VARIATIONS, "variations", f"1 to {MAX_VARIATIONS}")

    def to_wire(self) -> dict[str, Any]:
        fields: dict[str, Any] = to_map(self)
        for name in ("detail", "matting", "segment", "automatic_grow"):
            if not fields[name]:
                del fields[name]  # a backend from before it knows no such field, and need not
        for name in ("attention", "blend"):
            if fields[name] is None:
                del fields[name]
        return fields

    def without(self, names: Collection[str]) -> EditRequest:
        """With the optional fields of these names at their defaults: nothing is asked for."""
        defaults: dict[str, Any] = {field.name: field.default for field in fields_of(self) if field.name in names}
        return replace(self, **defaults)

    @classmethod
    def from_wire(cls, fields: dict[str, Any]) -> EditRequest:
        return from_map(cls, fields)


@dataclass(frozen=True)
class EditResult:
    """One variation: straight-alpha RGBA pixels (a PictureRef with 4 channels) of the manifest's `bounds`."""

    seed: int
    pixels: PictureRef


@dataclass(frozen=True)
class Manifest:
    """What a finished job left. `mask` and `soft_map` have the sent picture's size; `bounds` is where mask > 0.

    `soft_map` is None when the caller's own mask was used. `ground`: the soft map is that of a ground, on which things
    stand, whose mask an automatic grow leaves as it is. `evaluations` counts samples through the UNet; `seconds` are
    by stage. `notes` are (code, sentence) pairs for the artist, e.g. ("FLAGGED", ...). A description and suggestions
    have `words`, and no mask: None. (Older servers send one of theirs, which means nothing.)
    """

    mask: PlaneRef | None
    bounds: Bounds
    threshold: float
    soft_map: PlaneRef | None = None
    edits: tuple[EditResult, ...] = ()
    model: str = ""
    evaluations: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    notes: tuple[tuple[str, str], ...] = ()
    words: tuple[str, ...] = ()
    ground: bool = False

    def to_wire(self) -> dict[str, Any]:
        fields: dict[str, Any] = to_map(self)
        return fields

    @classmethod
    def from_wire(cls, fields: dict[str, Any]) -> Manifest:
        return from_map(cls, fields, lenient=True)


@dataclass(frozen=True)
class Queued:
    """The job waits; `position` jobs run or wait before it. After Started: its worker was lost, and it begins anew."""

    position: int


@dataclass(frozen=True)
class Started:
    """A worker took the job."""


@dataclass(frozen=True)
class Progress:
    """Step `step` of `total` of `stage` is done; `seconds_left` for the whole job where it can be told.

    A newer server may name a stage that is none of these; it comes as it was sent.
    """

    stage: Stage
    step: int
    total: int
    seconds_left: float | None = None


@dataclass(frozen=True)
class Preview:
    """What the picture is becoming: raw RGB, 8-bit. The only event that may be dropped."""

    width: int
    height: int
    rgb: bytes


@dataclass(frozen=True)
class Done:
    """The job's result is ready to be fetched; it is kept until acknowledged."""

    manifest: Manifest


@dataclass(frozen=True)
class Failed:
    """The job ended with an error; the picture is untouched."""

    error: DiffEditError


@dataclass(frozen=True)
class Cancelled:
    """The job was cancelled by its client."""


Event = Queued | Started | Progress | Preview | Done | Failed | Cancelled
FINAL_EVENTS = (Done, Failed, Cancelled)
