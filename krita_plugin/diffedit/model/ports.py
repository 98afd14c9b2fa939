"""What the model asks of a canvas, and the values that pass between them: `canvas/` does it in a real Krita, tests in
a made-up one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Protocol, TypeAlias

from diffedit_protocol.messages import Bounds

MaskForm: TypeAlias = Literal["overlay", "selection", "selectionmask"]
ResultForm: TypeAlias = Literal["layer", "transparency", "group"]
InputKind: TypeAlias = Literal["visible", "layer"]
SAMPLES = 1 << 16  # of a soft map: the share that a threshold selects is then known to a fraction of a percent

PaintedMask: TypeAlias = object  # a mask as the artist changed it: the canvas' own type


@dataclass(frozen=True)
class Geometry:
    """How a picture lies: its size in px, and 32 × 32 px that stand for it, a byte a channel, to notice that it was
    mirrored or turned."""

    width: int
    height: int
    thumbnail: bytes


@dataclass(frozen=True)
class FrameSpan:
    """Frames of an animation that show the same: from `first` on, up to but without `after`; None: to the end.
    `time`: the one that is edited."""

    time: int
    first: int
    after: int | None

    @property
    def everything(self) -> bool:
        """Whether all frames show the same."""
        return self.first == 0 and self.after is None

    def holds(self, time: int) -> bool:
        return self.first <= time and (self.after is None or time < self.after)


@dataclass(frozen=True)
class LayerRef:
    """A layer of a document, by the ids that stay the same while the document is open, and by the names for sentences.

    `layer_id` "" is the whole picture, all visible layers. `position` is the layer's offset in px when this was noted,
    so that a result follows a layer that is moved meanwhile. `host_id`: the layer that was active, which masks are
    added to. `mask_id`: the artist's selection mask that an edit uses, "" for none. `geometry`: as it was noted.
    `span`: which frames are meant; None where nothing of it is animated.
    """

    document_id: str
    layer_id: str
    document_name: str
    layer_name: str
    position: tuple[int, int]
    host_id: str = ""
    mask_id: str = ""
    geometry: Geometry | None = None
    span: FrameSpan | None = None

    @property
    def whole(self) -> bool:
        """Whether all visible layers are meant."""
        return not self.layer_id


@dataclass(frozen=True)
class Fingerprint:
    """The checksums of a layer's pixels in `area`, cut into strips of about `strip_pixels` px. `space`: their colour
    space. `style`: the layer's style, which shows in none of its own pixels; "" for none."""

    area: Bounds
    strip_pixels: int
    sums: tuple[int, ...]
    space: tuple[str, ...] = ()
    style: str = ""


@dataclass(frozen=True)
class Capture:
    """What is sent. `pixels`: 8-bit sRGB, RGB when `channels` is 3 (opaque) or RGBA with straight alpha, row by row.

    `area` is where they lie in the image. `selection` and `mask` are planes of `area`, 0..255, or None: no selection
    (or one of everything), no selection mask on the layer. `mask_name` is that mask's name. `fingerprint` is the
    layer's, to notice later that it was painted on. `all_selected`: there is a selection, and all of `area` is in it.
    `coarser`: what is sent has fewer bits, or a smaller gamut, than the layer.
    """

    layer_ref: LayerRef
    area: Bounds
    channels: int
    pixels: bytes
    selection: bytes | None
    mask: bytes | None
    mask_name: str
    fingerprint: Fingerprint
    all_selected: bool = False
    coarser: bool = False


@dataclass(frozen=True)
class Addition:
    """A layer to add, with the selection mask that goes under it.

    `pixels` are those of `area`: 8-bit sRGB, RGBA with straight alpha. `mask` is a plane of `mask_area`, 0..255.
    `source_alpha`: what was sent had this alpha in `area`; None where it was opaque. `changed`: how much of each px is
    the edit's, where the rest shows the source's own, finer colours; None: all.
    """

    name: str
    area: Bounds
    pixels: bytes
    mask: bytes
    mask_area: Bounds
    source_alpha: bytes | None = None
    changed: bytes | None = None

    def moved(self, dx: int, dy: int) -> Addition:
        return replace(self, area=self.area.moved(dx, dy), mask_area=self.mask_area.moved(dx, dy))

    def mask_of_area(self) -> bytes:
        """The part of the mask that lies over the pixels."""
        left, top = self.area.x - self.mask_area.x, self.area.y - self.mask_area.y
        starts = (y * self.mask_area.width + left for y in range(top, top + self.area.height))
        return b"".join(self.mask[start : start + self.area.width] for start in starts)


@dataclass(frozen=True)
class MaskValues:
    """The sliders of a mask: `threshold` in (0, 1), `grow` and `feather` in px of the image."""

    threshold: float
    grow: int = 0
    feather: int = 0


class LiveMask(Protocol):
    """A found mask that is shown over the picture. Methods raise a CanvasRefusal when document or layer are gone."""

    in_document: bool

    def show(self, values: MaskValues, *, dragged: bool = False) -> None: ...
    def hide(self) -> None: ...
    def follow(self) -> bool: ...
    def belongs(self) -> bool: ...
    def changed(self) -> bool: ...
    def rest_steps(self, values: MaskValues) -> Generator[None, None, None]: ...
    def plane_steps(self, values: MaskValues) -> Generator[None, None, bytes]: ...
    def painted(self) -> PaintedMask | None: ...
    def show_painted(self, painted: PaintedMask) -> None: ...


@dataclass(frozen=True)
class FoundMask:
    """A mask that was found from the words, as a soft map of `area` of the image.

    `soft_map`: 0..255, one byte per px, row by row; a pixel is in the mask from `round(threshold × 255)` on.
    `threshold`: what the backend chose or was given. `fingerprint`: of the layer as it was searched. `selection`: what
    limited the search, a plane of `area`, or None. `ground`: it is that of a ground, on which things stand.
    """

    layer_ref: LayerRef
    area: Bounds
    soft_map: bytes
    threshold: float
    fingerprint: Fingerprint
    selection: bytes | None = None
    ground: bool = False

    @cached_property
    def _counts(self) -> Counter[int]:
        """How often each value stands among evenly spread samples."""
        stride = max(1, len(self.soft_map) // SAMPLES) | 1  # odd: no column of a power of two is preferred
        return Counter(self.soft_map[::stride])

    def share(self, threshold: float) -> float:
        """How much of the area is in the mask at `threshold`, 0 to 1."""
        level = round(threshold * 255)
        return sum(n for value, n in self._counts.items() if value >= level) / max(1, self._counts.total())


class Canvas(Protocol):
    """Open documents, by their ids, and what is read from and added to them. `..._steps` are generators of short
    steps, see `StepRunner`. Everything raises a CanvasRefusal for what cannot be done."""

    def active_document(self) -> str: ...
    def document_in(self, window: object) -> str: ...
    def document_side(self, document_id: str) -> int: ...
    def mask_in_use(self) -> str: ...
    def leave_mask(self) -> None: ...
    def show_active_mask(self) -> None: ...
    def colour_notice(self, document_id: str) -> str: ...
    def document_name(self, document_id: str) -> str: ...
    def document_path(self, document_id: str) -> str: ...
    def open_documents(self) -> list[str]: ...
    def has_selection(self) -> bool: ...
    def active_layer(self, kind: InputKind) -> LayerRef: ...
    def chosen_layers(self) -> list[LayerRef]: ...
    def frame_range(self) -> tuple[int, int]: ...
    def frames(self, kind: InputKind, first: int, last: int) -> list[LayerRef]: ...
    def capture_steps(self, layer_ref: LayerRef, context: int) -> Generator[Any, None, Capture]: ...
    def read_plane(self, painted: PaintedMask, area: Bounds) -> Generator[Any, None, bytes]: ...
    def live_mask(self, found: FoundMask, form: MaskForm, leave: Callable[[], None]) -> LiveMask: ...
    def select(self, layer_ref: LayerRef, plane: bytes, area: Bounds) -> None: ...
    def keep_mask_steps(
        self, layer_ref: LayerRef, name: str, plane: bytes, area: Bounds
    ) -> Generator[Any, None, str]: ...
    def apply_steps(self, layer_ref: LayerRef, addition: Addition, form: ResultForm) -> Generator[Any, None, str]: ...
    def apply_frames_steps(self, parts: Sequence[tuple[LayerRef, Addition]]) -> Generator[Any, None, str]: ...
    def exchange_steps(
        self, layer_ref: LayerRef, layer_id: str, shown: Bounds, addition: Addition
    ) -> Generator[Any, None, None]: ...
    def has_layer(self, layer_ref: LayerRef, layer_id: str) -> bool: ...
    def remove_layer(self, layer_ref: LayerRef, layer_id: str, name: str) -> None: ...
    def read_history(self, document_id: str) -> bytes: ...
    def write_history(self, document_id: str, history: bytes) -> None: ...
    def description(self) -> list[str]: ...
