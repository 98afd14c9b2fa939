"""The whole way in a real Krita: menu action, ZeroMQ, backend with the bundled model, selection mask and new layer."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from diffedit_backend.bundled import samples, samples_folder
from diffedit_krita_driver.backend_process import BackendProcess
from diffedit_krita_driver.kra import Kra
from diffedit_krita_driver.remote import RemoteKrita
from numpy.typing import NDArray
from PIL import Image

SAMPLE = samples()[0]


@pytest.fixture(scope="module")
def own_krita(start_krita) -> RemoteKrita:
    """A Krita whose plugin finds the backend of this module by itself."""
    return start_krita()


@pytest.fixture(scope="module")
def without_backend(own_krita: RemoteKrita) -> tuple[str, list[str], int]:
    """Sentence, remedies and number of layers after an edit that no backend could make; before there is one."""
    return tuple(own_krita.run(edit_without_backend, picture=samples_folder() / SAMPLE.file))


@pytest.fixture(scope="module")
def backend(own_krita: RemoteKrita, without_backend: tuple[str, list[str], int]) -> Iterator[BackendProcess]:
    with BackendProcess(own_krita.profile.diffedit_home, ["--threads", "2"]) as process:
        yield process


@pytest.fixture(scope="module")
def backed_krita(own_krita: RemoteKrita, backend: BackendProcess) -> RemoteKrita:
    """That Krita, its backend running."""
    return own_krita


def edit_without_backend(stage, picture):
    from diffedit.extension import extension

    document = yield from stage.open(picture)
    session = extension().app.session
    session.change_inputs(source="a horse", target="a zebra")
    stage.app.action("diffedit_edit_layer").trigger()
    yield lambda: session.notice is not None
    reported = session.notice.sentence, list(session.notice.remedies), len(document.topLevelNodes())
    stage.app.action("diffedit_cancel").trigger()  # the job would wait for a backend
    yield lambda: session.activity is None
    yield from stage.close_all()
    return reported


def test_without_a_backend_the_plugin_says_so_and_what_to_do(without_backend: tuple[str, list[str], int]) -> None:
    sentence, remedies, layers = without_backend
    assert sentence.startswith("No backend is running.")
    assert "start" in remedies
    assert layers == 1


def edit_by_menu(stage, picture, source, target, folder):
    """Opens the picture, writes the words into the docker's session, triggers the menu action, saves what comes."""
    from diffedit.extension import extension

    folder = Path(folder)
    document = yield from stage.open(picture)
    stage.save(folder / "before.kra")
    app = extension().app
    yield 0.1
    session = app.session
    session.change_inputs(source=source, target=target, seed=41, seed_locked=True, quality="draft", variations=1)
    reported = []
    session.changed.connect(lambda aspect: reported.append(str(session.activity)) if aspect == "activity" else None)
    yield lambda: app.link.state.kind == "ready"
    stage.app.action("diffedit_edit_layer").trigger()
    yield lambda: session.activity is not None
    yield lambda: session.activity is None, 240
    yield from stage.settle()
    names = [node.name() for node in document.topLevelNodes()]
    notice = session.notice.sentence if session.notice is not None else ""
    stage.save(folder / "after.kra")
    yield from stage.undo()
    undone = [node.name() for node in document.topLevelNodes()]
    return {"names": names, "undone": undone, "notice": notice, "activities": len(set(reported))}


@pytest.fixture(scope="module")
def edited(backed_krita: RemoteKrita, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("whole")
    reported = backed_krita.run(
        edit_by_menu,
        picture=samples_folder() / SAMPLE.file,
        source=SAMPLE.source,
        target=SAMPLE.target,
        folder=folder,
        limit=400,
    )
    return reported, folder


@pytest.mark.timeout(900)  # the model is loaded twice
def test_a_worker_that_dies_in_the_middle_costs_one_job_and_says_so(
    backed_krita: RemoteKrita, backend: BackendProcess
) -> None:
    def killed(stage, picture, source, target, server):
        import os
        import signal

        from diffedit.extension import extension

        yield from stage.close_all()
        document = yield from stage.open(picture)
        yield 0.1
        app = extension().app
        session = app.session
        session.notice = None
        session.change_inputs(source=source, target=target, seed=7, seed_locked=True, quality="fine", variations=1)
        yield lambda: app.link.state.kind == "ready"
        threads = Path(f"/proc/{server}/task").glob("*/children")
        children = [int(child) for thread in threads for child in thread.read_text().split()]
        worker = next(c for c in children if b"diffedit_backend.worker" in Path(f"/proc/{c}/cmdline").read_bytes())
        os.kill(worker, signal.SIGSTOP)  # else it may be done before it is killed
        stage.app.action("diffedit_edit_layer").trigger()
        yield lambda: session.activity is None or session.activity.phase == "working", 120
        os.kill(worker, signal.SIGKILL)
        yield lambda: session.activity is None, 120
        reported = session.notice.sentence, list(session.notice.remedies), len(document.topLevelNodes())
        session.notice = None
        session.change_inputs(quality="draft")
        stage.app.action("diffedit_edit_layer").trigger()
        yield lambda: session.activity is not None
        yield lambda: session.activity is None, 400
        yield from stage.settle()
        return *reported, len(document.topLevelNodes()), session.notice and session.notice.sentence

    sentence, remedies, after_death, after_retry, notice = backed_krita.run(
        killed,
        picture=samples_folder() / SAMPLE.file,
        source=SAMPLE.source,
        target=SAMPLE.target,
        server=backend.pid,
        limit=800,
    )
    assert sentence == "The backend had to restart its model. Your picture was not changed."
    assert remedies[0] == "retry"
    assert after_death == 1
    assert after_retry == 2, notice


def shown(kra: Kra) -> NDArray[np.uint8]:
    return np.array(Image.open(io.BytesIO(kra.merged())).convert("RGBA"))


def test_the_menu_action_brings_one_new_layer_with_its_mask(edited) -> None:
    reported, folder = edited
    assert reported["notice"] == ""
    assert len(reported["names"]) == 2
    assert reported["names"][1] == "horse → zebra (41)"
    kra = Kra(folder / "after.kra")
    assert [mask.kind for mask in kra.layers[0].children] == ["selectionmask"]


def test_progress_was_reported_while_the_edit_ran(edited) -> None:
    assert edited[0]["activities"] > 5


def test_the_mask_covers_some_of_the_picture_and_not_all(edited) -> None:
    kra = Kra(edited[1] / "after.kra")
    mask = kra.pixels(kra.layers[0].children[0])[..., 0]
    assert 0.02 < (mask > 127).mean() < 0.9


def test_outside_the_mask_nothing_changed_by_one_bit_and_inside_something_did(edited) -> None:
    _, folder = edited
    before, after = Kra(folder / "before.kra"), Kra(folder / "after.kra")
    mask = after.pixels(after.layers[0].children[0])[..., 0]
    outside = mask == 0
    assert np.array_equal(shown(before)[outside], shown(after)[outside])
    assert (shown(before)[mask > 127] != shown(after)[mask > 127]).any(axis=1).mean() > 0.2
    assert np.array_equal(before.pixels(before.layers[0]), after.pixels(after.layers[1]))


def test_one_undo_takes_it_all_back(edited) -> None:
    reported, _ = edited
    assert reported["undone"] == reported["names"][:1]


@pytest.mark.timeout(600)
def test_the_mask_of_a_ground_is_not_grown_and_the_edit_uses_what_the_canvas_showed(
    edited, backed_krita: RemoteKrita, tmp_path: Path
) -> None:
    def ground(stage, picture, folder):
        from diffedit.extension import extension
        from diffedit.model.mask_formula import final_mask

        yield from stage.close_all()
        yield from stage.open(picture)
        yield 0.1
        session = extension().app.session
        session.change_inputs(source="a horse on grass", target="a horse on snow", grow=None, feather=None, seed=3)
        stage.app.action("diffedit_find_mask").trigger()
        yield lambda: session.activity is not None
        yield lambda: session.activity is None and session.mask_shown, 240
        found, grow, feather = session.found, session.grow, session.feather
        shape = found.area.width, found.area.height
        shown = final_mask(found.soft_map, *shape, found.threshold, grow, feather, None)
        stage.app.action("diffedit_edit_layer").trigger()
        yield lambda: session.activity is not None
        yield lambda: session.activity is None, 240
        yield from stage.settle()
        stage.save(Path(folder) / "ground.kra")
        return {"ground": found.ground, "grow": grow, "feather": feather, "mask": shown.hex()}

    reported = backed_krita.run(ground, picture=samples_folder() / SAMPLE.file, folder=tmp_path, limit=500)
    assert (reported["ground"], reported["grow"]) == (True, 0)
    assert reported["feather"] == 12  # 3 px at the 128 px of the bundled model, in a picture of 512 px
    kra = Kra(tmp_path / "ground.kra")
    mask = kra.pixels(kra.layers[0].children[0])[..., 0]
    assert np.array_equal(mask.ravel(), np.frombuffer(bytes.fromhex(reported["mask"]), np.uint8))
