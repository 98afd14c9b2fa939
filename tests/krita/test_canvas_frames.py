"""Animated pictures: a result shows in the frames that were edited, and *Edit Frames…* edits a range of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from diffedit_krita_driver.remote import RemoteKrita

SOURCE = {0: 10, 4: 80, 8: 160}  # the grey of each keyframe of the source


def film(stage, case, kind, folder):
    """Three keyframes, *Edit Frames…* of all of them; each result is the sent grey and 5. -> what is seen then."""
    from diffedit.extension import extension
    from diffedit.model.payload import JobResult
    from diffedit_protocol.blobs import pack_picture, pack_plane
    from diffedit_protocol.errors import OutOfMemoryError
    from diffedit_protocol.messages import Bounds, Cancelled, EditResult, Failed, Manifest

    document = yield from stage.new(40, 30)
    layer = document.activeNode()
    layer.setName("Figure")
    layer.enableAnimation()
    for time, grey in ((0, 10), (4, 80), (8, 160)):
        document.setCurrentTime(time)
        yield from stage.settle()
        if time:
            stage.app.action("add_blank_frame").trigger()
            yield from stage.settle()
        layer.setPixelData(bytes([grey, grey, grey, 255]) * 1200, 0, 0, 40, 30)
        yield from stage.refresh()
    document.setFullClipRangeEndTime(11)
    document.setCurrentTime(5)
    yield from stage.settle()
    app = extension().app
    app.look()
    session = app.session
    store, put = app.store.settings, app.store.change
    before = store.input
    put(input=kind)
    session.change_inputs(source="a horse", target="a zebra", seed=7, seed_locked=True)
    sent, link = [], app.link
    link.submit = sent.append
    link.cancel = lambda job: link.job_event.emit(job, Cancelled())

    def finish(payload):
        width, height = payload.width, payload.height
        grey = payload.picture[0] + 5
        pixels = bytes([grey, grey, grey, 255]) * (width * height)
        mask, _ = pack_plane(b"\xff" * (width * height), width, height)
        picture, _ = pack_picture(pixels, width, height, 4)
        edit = EditResult(payload.request.seed, picture)
        manifest = Manifest(mask, Bounds(0, 0, width, height), 0.5, edits=(edit,), model="m")
        link.job_finished.emit(payload.job, JobResult(manifest, b"\xff" * (width * height), None, (pixels,)))

    titles = []
    try:
        app.edit_frames(*((2, 6) if case == "a part" else (0, 11)))
        for number in range(1, 4):
            yield lambda number=number: len(sent) == number or (session.activity is None and session.part is None)
            if len(sent) < number:
                break
            titles.append(session.activity.title.partition(" · ")[0])
            if case == "cancelled" and number == 3:
                app.cancel()
            elif case == "failed" and number == 3:
                link.job_event.emit(sent[-1].job, Failed(OutOfMemoryError("no memory")))
            else:
                finish(sent[-1])
        yield lambda: session.activity is None and session.part is None and len(document.topLevelNodes()) == 2
        yield lambda: session.activity is None
        yield from stage.settle()
    finally:
        del link.submit, link.cancel
        put(input=before)
    result = document.topLevelNodes()[-1]
    reported = {
        "titles": titles,
        "time": document.currentTime(),
        "seeds": [payload.request.seed for payload in sent],
        "sent": [payload.picture[0] for payload in sent],
        "keys": [time for time in range(14) if result.hasKeyframeAtTime(time)],
        "name": result.name(),
        "active": document.activeNode().name(),
        "states": [v.state for v in session.variations],
        "notice": session.notice.sentence,
    }
    stage.save(Path(folder) / "film.kra")
    yield 0.3
    yield from stage.undo()
    reported["after an undo"] = [node.name() for node in document.topLevelNodes()]
    yield from stage.redo()
    seen, source = {}, {}
    for time in range(12):
        document.setCurrentTime(time)
        yield from stage.settle()
        seen[time] = bytes(document.rootNode().projectionPixelData(5, 5, 1, 1))[0]
        source[time] = bytes(layer.pixelData(5, 5, 1, 1))[0]
    reported["seen"], reported["source"] = list(seen.values()), list(source.values())
    yield from stage.close_all()
    again = yield from stage.open(Path(folder) / "film.kra")
    result = again.topLevelNodes()[-1]
    reported["keys in the file"] = [time for time in range(14) if result.hasKeyframeAtTime(time)]
    return reported


def held(greys: dict[int, int]) -> list[int]:
    """What 12 frames show of keyframes."""
    return [greys[max(key for key in greys if key <= time)] for time in range(12)]


@pytest.mark.parametrize("kind", ["visible", "layer"])
def test_each_frame_gets_its_own_result_in_one_layer_that_one_undo_takes_away(
    krita: RemoteKrita, tmp_path: Path, kind: str
) -> None:
    reported = krita.run(film, case="all", kind=kind, folder=tmp_path)
    assert reported["titles"] == ["Editing 1 of 3", "Editing 2 of 3", "Editing 3 of 3"]
    assert (reported["seeds"], reported["sent"]) == ([7, 7, 7], [10, 80, 160])
    assert reported["keys"] == reported["keys in the file"] == [0, 4, 8]
    assert reported["seen"] == held({time: grey + 5 for time, grey in SOURCE.items()})
    assert reported["source"] == held(SOURCE)
    assert (reported["name"], reported["active"], reported["time"]) == ("horse → zebra (7)", "Figure", 5)
    assert reported["after an undo"] == ["Figure"]
    assert reported["states"] == ["added"] * 3
    assert reported["notice"] == "3 frames were edited."


def test_frames_outside_the_range_do_not_change(krita: RemoteKrita, tmp_path: Path) -> None:
    reported = krita.run(film, case="a part", kind="visible", folder=tmp_path)
    assert reported["sent"] == [10, 80]
    assert reported["keys"] == [0, 2, 4, 7]
    assert reported["seen"] == [10, 10, 15, 15, 85, 85, 85, 80, 160, 160, 160, 160]
    assert reported["source"] == held(SOURCE)


@pytest.mark.parametrize("case", ["cancelled", "failed"])
def test_what_ends_in_the_middle_keeps_the_frames_that_are_done(krita: RemoteKrita, tmp_path: Path, case: str) -> None:
    reported = krita.run(film, case=case, kind="visible", folder=tmp_path)
    assert reported["keys"] == [0, 4, 8]
    assert reported["seen"] == held({0: 15, 4: 85, 8: 160})
    assert reported["source"] == held(SOURCE)
    shown = {"cancelled": "Cancelled. Frames that were edited: 2 of 3.", "failed": "ran out of memory"}
    assert shown[case] in reported["notice"]
