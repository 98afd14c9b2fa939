"""The pen beside the first text: the backend says what the layer shows."""

from __future__ import annotations

import dataclasses

import fake_krita
import pytest
from apps import READY, make_app, open_picture
from diffedit.model import prompts
from diffedit.model.payload import JobResult
from diffedit.model.settings import Store
from diffedit.ui.docker.panel import EditPanel
from diffedit_protocol.blobs import pack_plane
from diffedit_protocol.errors import ModelError
from diffedit_protocol.messages import Bounds, Failed, Manifest, Progress
from diffedit_protocol.replies import DESCRIBE

DESCRIBES = dataclasses.replace(READY, info=dataclasses.replace(READY.info, capabilities=(DESCRIBE,)))


@pytest.fixture
def opened(store: Store, krita: fake_krita.Krita):
    app, link = make_app(store)
    panel = EditPanel(app)
    open_picture()
    app.look()
    link.become(DESCRIBES)
    return app, link, panel


def test_the_pen_is_there_only_where_the_backend_has_a_captioning_model(opened) -> None:
    _, link, panel = opened
    assert not panel.describe.isHidden()
    link.become(READY)
    assert panel.describe.isHidden()


def test_the_answer_becomes_the_first_text_and_the_old_one_can_be_had_again(opened, until) -> None:
    app, link, panel = opened
    app.session.change_inputs(source="something", target="a zebra")
    panel.describe.click()
    until(lambda: link.payloads)
    assert link.last.request.task == "describe"
    assert not panel.describe.isEnabled()
    link.report(Progress("encoding", 0, 1))
    assert app.session.activity.title.startswith("Describing the layer")
    plane, _ = pack_plane(bytes(64 * 48), 64, 48)
    manifest = Manifest(plane, Bounds(0, 0, 64, 48), 0.5, words=("a horse on grass",))
    link.job_finished.emit(link.last.job, JobResult(manifest, bytes(64 * 48), None, ()))
    assert panel.source.edit.toPlainText() == "a horse on grass"
    assert app.session.inputs.target == "a zebra"
    assert prompts.earlier(app.store, "source") == ["something"]
    assert panel.describe.isEnabled()


def test_no_words_are_needed_to_be_given_some(opened, until) -> None:
    _, link, panel = opened
    panel.describe.click()
    until(lambda: link.payloads)
    assert (link.last.request.source, link.last.request.mask) == ("", None)


def test_a_description_that_fails_leaves_the_words_and_says_why(opened, until) -> None:
    app, link, panel = opened
    app.session.change_inputs(source="something")
    panel.describe.click()
    until(lambda: link.payloads)
    link.report(Failed(ModelError("The captioning model is damaged. Download it again.")))
    assert app.session.notice.sentence == "The captioning model is damaged. Download it again."
    assert panel.source.edit.toPlainText() == "something"
