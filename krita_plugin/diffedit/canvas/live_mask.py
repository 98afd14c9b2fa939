"""The found mask over the picture, moving under the sliders: in red over the canvas, as Krita's own selection, or as a
selection mask of the layer.
"""

from __future__ import annotations

from collections.abc import Callable, Generator

from diffedit_protocol.messages import Bounds
from krita import Document, Node, Selection

from ..model import mask_formula
from ..model.ports import FoundMask, MaskForm, MaskValues
from ..model.steps import CanvasRefusal
from ..qt import QtGui, sip
from .apply import write_plane
from .documents import active_document, id_of
from .fingerprint import ChangeWatch
from .layers import drift, find_again, host_of, is_busy, layer_of, node_with_id
from .mask_shape import enlarged, feathered, grey_image, thinned, trimmed
from .overlay import MaskOverlay
from .undoable_selection import outdate_outline

LOOK_PIXELS = 1 << 20  # of the layer, read and summed at every look: some 5 ms
HALF_FROM = 6  # px of feather: half the px then shows the same
DRAGGED_SIDE = 1024  # px: more is not seen while a slider is dragged
# px: a larger mask follows a dragged slider in red, and is put into the document at rest. At 1024 × 1024 that takes
# 10 ms a time, and as a selection 20 more, in which Krita draws its outline anew.
LARGEST_DRAGGED: dict[MaskForm, int] = {"overlay": 0, "selection": 1 << 18, "selectionmask": 1 << 20}


class LiveMask:
    """Shows a found mask, cut at a threshold, as often as it is asked to.

    At rest it is the very mask that an edit uses (see `mask_formula`), limited by the selection of the search.
    `form`: "overlay" draws it over the canvas and changes nothing; `leave` is called when the artist wants it away.
    "selection" makes it the artist's selection; `hide` brings their own back. "selectionmask" makes it a selection mask
    of the layer, one undo step when it first comes.
    """

    def __init__(
        self, found: FoundMask, form: MaskForm = "selection", leave: Callable[[], None] = lambda: None
    ) -> None:
        self._ref, self._area, self._soft_map, self._selection = (
            found.layer_ref,
            found.area,
            found.soft_map,
            found.selection,
        )
        self._watch = ChangeWatch(found.fingerprint)
        self._as_mask = form == "selectionmask"
        self._leave = leave
        self._overlay: MaskOverlay | None = None
        self._active_layer = ""  # when the overlay was last drawn
        self.in_document = form != "overlay"
        self._largest_dragged = LARGEST_DRAGGED[form]
        self._grown: dict[int, tuple[int, tuple[bytes, int, int]]] = {}
        self._at_rest: tuple[MaskValues, bytes] | None = None
        self._before: Selection | None = None
        self._shown = False
        self._shape: Selection | None = None
        self._mask_id = ""

    @property
    def mask_id(self) -> str:
        """The id of the selection mask that shows it; "" as long as there is none."""
        return self._mask_id

    def plane_steps(self, values: MaskValues) -> Generator[None, None, bytes]:
        """The mask as it looks with these values, before the selection limits it, in short steps: all px of a large
        one take seconds."""
        if self._at_rest is None or self._at_rest[0] != values:
            width, height = self._area.width, self._area.height
            steps = mask_formula.in_steps(self._soft_map, width, height, values.threshold, values.grow, values.feather)
            self._at_rest = (values, (yield from steps))
        return self._at_rest[1]

    def rest_steps(self, values: MaskValues) -> Generator[None, None, None]:
        """Shows it with all its px, in short steps, where the slider that was dragged rests.

        CanvasRefusal when document or layer are gone.
        """
        plane = yield from self.plane_steps(values)
        if self._selection is not None:
            plane = yield from mask_formula.limit_in_steps(plane, self._selection)
        yield
        document, layer = find_again(self._ref)
        area = self._area.moved(*drift(self._ref, layer))
        if self.in_document:
            shape = Selection()
            yield from write_plane(shape, plane, area)
            document, layer = find_again(self._ref)
            self._select(document, layer, shape)
        else:
            yield from self._overlay_in(document).plane_steps(plane, area)
        yield

    def show(self, values: MaskValues, *, dragged: bool = False) -> None:
        """Shows it with these values. `dragged`: others follow at once, so that fewer px will do; a large one is drawn
        over the canvas, whatever its form, and comes into the document with `rest_steps`.

        CanvasRefusal when document or layer are gone.
        """
        document, layer = find_again(self._ref)
        area = self._area.moved(*drift(self._ref, layer))
        image = self._shaped(values, dragged)
        if not self.in_document or (dragged and area.pixels > self._largest_dragged):
            if self._selection is not None:
                image = self._limited_image(image, self._step(values) if dragged else 1)
            self._draw(document, image, area, dragged)
            return
        self._select(document, layer, _selection_of(self._limited(self._plane_of(image)), area))

    def _select(self, document: Document, layer: Node, shape: Selection) -> None:
        self._take_overlay_away()
        outdate_outline(document, shape)
        self._shape = shape.duplicate()
        self._put(document, layer, shape)

    def painted(self) -> Selection | None:
        """The mask as the artist changed it since it was shown; None when it is as it was.

        CanvasRefusal when document or layer are gone.
        """
        if not self.in_document:
            return None
        document, _ = find_again(self._ref)
        if self._as_mask:
            mask = node_with_id(document.rootNode(), self._mask_id)
            now = None if mask is None else mask.selection()
        else:
            now = document.selection()
        if now is None or self._shape is None:
            return None
        area = area_around(now, self._shape)
        read = [bytes(selection.pixelData(*area)) for selection in (now, self._shape)]
        return None if read[0] == read[1] else now.duplicate()

    def show_painted(self, painted: Selection) -> None:
        """Shows again what `painted` gave, after `hide`. CanvasRefusal when document or layer are gone."""
        document, layer = find_again(self._ref)
        self._put(document, layer, painted.duplicate())

    def _put(self, document: Document, layer: Node, shape: Selection) -> None:
        if self._as_mask:
            self._show_as_mask(document, host_of(self._ref, document), shape)
        else:
            if not self._shown:
                before = document.selection()
                self._before = None if before is None else before.duplicate()
            document.setSelection(shape)
        self._shown = True

    def hide(self) -> None:
        """Takes it away: the artist's selection is as it was before; a selection mask goes (one undo step)."""
        self._take_overlay_away()
        if not self._shown:
            return
        self._shown = False
        try:
            document, _ = find_again(self._ref)
        except CanvasRefusal:
            return  # what it stood on is gone, and it with it
        mask = node_with_id(document.rootNode(), self._mask_id)
        if mask is not None:
            mask.remove()
        if not self._as_mask:
            document.setSelection(self._before)

    def _take_overlay_away(self) -> None:
        if self._overlay is not None and not sip.isdeleted(self._overlay):
            self._overlay.take_away()
        self._overlay = None

    def follow(self) -> bool:
        """Moves the overlay with its layer; False when it should go: its view was closed, its document left, its
        layer deleted, or another layer was chosen since it was drawn."""
        if self._overlay is None or sip.isdeleted(self._overlay):
            return False
        try:
            document, layer = find_again(self._ref)
        except CanvasRefusal:
            return False
        if not self._in_front(document):
            return False
        self._overlay.move_to(self._area.moved(*drift(self._ref, layer)))
        return True

    def belongs(self) -> bool:
        """Whether the overlay may be drawn now: its document is in front, and no other layer was chosen since."""
        try:
            document, _ = find_again(self._ref)
        except CanvasRefusal:
            return False
        return self._in_front(document)

    def _in_front(self, document: Document) -> bool:
        try:
            in_front = id_of(active_document()) == self._ref.document_id
        except CanvasRefusal:
            return False
        return in_front and (self._ref.whole or _active_layer(document) == self._active_layer)

    def changed(self) -> bool:
        """Whether the layer is known to be another than the one that was searched; looks at a part of it each time.

        CanvasRefusal when document or layer are gone.
        """
        document, layer = find_again(self._ref)
        if is_busy(document):  # a stroke under way is looked at when it is done
            return self._watch.known
        return self._watch.look(layer, *drift(self._ref, layer), LOOK_PIXELS)

    def _shaped(self, values: MaskValues, dragged: bool) -> QtGui.QImage:
        """The mask with these values as a grey image; dragged, nearly and quickly, with fewer px than the area."""
        table, feather = mask_formula.threshold_table(values.threshold), values.feather
        if not dragged:
            width, height = self._area.width, self._area.height
            hard = mask_formula.grow(self._soft_map.translate(table), width, height, values.grow)
            return grey_image(mask_formula.feather(hard, width, height, feather), width, height)
        step = self._step(values)
        soft, width, height = self._grown_by(values.grow, step)
        return feathered(soft.translate(table), width, height, feather / step)

    def _step(self, values: MaskValues) -> int:
        """Every how many px of a row, and rows, are enough for the eyes; 1 is all of them."""
        step = -(-max(self._area.width, self._area.height) // DRAGGED_SIDE)
        return 2 * step if values.feather >= HALF_FROM * step else step

    def _grown_by(self, grow: int, step: int) -> tuple[bytes, int, int]:
        """The soft map with every `step`th px, grown by Krita's disk of `grow` px of the picture (shrunk if negative),
        and its size; kept for as long as that is wanted: a threshold then moves at the cost of a table. The formula's
        octagon is within 6 % of it."""
        radius = round(grow / step)
        kept = self._grown.get(step)
        if kept is None or kept[0] != radius:
            soft, width, height = thinned(self._soft_map, self._area.width, self._area.height, step)
            if radius > 0:
                soft = _dilated(soft, width, height, radius)
            elif radius < 0:
                inverted = mask_formula.INVERTED
                soft = _dilated(soft.translate(inverted), width, height, -radius).translate(inverted)
            kept = self._grown[step] = (radius, (soft, width, height))
        return kept[1]

    def _plane_of(self, image: QtGui.QImage) -> bytes:
        return enlarged(image, self._area.width, self._area.height)

    def _draw(self, document: Document, mask: QtGui.QImage, area: Bounds, dragged: bool) -> None:
        self._overlay_in(document).show_mask(mask, area, keep_colour=dragged)

    def _overlay_in(self, document: Document) -> MaskOverlay:
        if self._overlay is not None and not sip.isdeleted(self._overlay) and not self._overlay.isVisible():
            self._overlay.take_away()  # another view of the document is in front now
            self._overlay = None
        if self._overlay is None or sip.isdeleted(self._overlay):
            self._overlay = MaskOverlay(document, self._leave)
        self._active_layer = _active_layer(document)
        return self._overlay

    def _limited(self, plane: bytes) -> bytes:
        return mask_formula.limit(plane, self._selection)

    def _limited_image(self, image: QtGui.QImage, step: int) -> QtGui.QImage:
        """The mask limited by the selection, with every `step`th px of both."""
        assert self._selection is not None
        limit, width, height = thinned(self._selection, self._area.width, self._area.height, step)
        return grey_image(mask_formula.limit(enlarged(image, width, height), limit), width, height)

    def _show_as_mask(self, document: Document, layer: Node, shape: Selection) -> None:
        mask = node_with_id(layer, self._mask_id)
        if mask is None:
            mask = document.createSelectionMask(f"{self._ref.layer_name} mask")
            mask.setSelection(shape)
            layer.addChildNode(mask, None)
            self._mask_id = mask.uniqueId().toString()
        else:
            mask.setSelection(shape)
            mask.setVisible(True)  # shows the change, which setSelection alone does not, and leaves no undo step


def _dilated(plane: bytes, width: int, height: int, radius: int) -> bytes:
    selection = _selection_of(plane, Bounds(0, 0, width, height))
    selection.grow(radius, radius)
    return bytes(selection.pixelData(0, 0, width, height))


def select(document: Document, plane: bytes, area: Bounds) -> None:
    """Makes `plane` of `area` the artist's selection, as *Mask to selection* does. Krita's API does not undo this."""
    selection = _selection_of(plane, area)
    outdate_outline(document, selection)
    document.setSelection(selection)


def area_around(*selections: Selection) -> tuple[int, int, int, int]:
    """Left, top, width and height of what all of them cover together; 1 px where they cover nothing."""
    left, top = min(s.x() for s in selections), min(s.y() for s in selections)
    right = max(s.x() + s.width() for s in selections)
    bottom = max(s.y() + s.height() for s in selections)
    return left, top, max(1, right - left), max(1, bottom - top)


def _active_layer(document: Document) -> str:
    """The id of the layer that is chosen, of a mask the id of its layer; "" without one."""
    node = document.activeNode()
    return "" if node is None or node.parentNode() is None else str(layer_of(node).uniqueId().toString())


def _selection_of(plane: bytes, area: Bounds) -> Selection:
    selection = Selection()
    part, left, top, width, height = trimmed(plane, area.width, area.height)
    if part:
        selection.setPixelData(part, area.x + left, area.y + top, width, height)
    return selection
