"""Two windows of one Krita: each docker shows the picture of its own window."""

from __future__ import annotations

from diffedit_krita_driver.remote import RemoteKrita


def in_two_windows(stage):
    """What the dockers of two windows show: first, after the second was used, and after a look at the first again."""
    from diffedit.extension import DOCKER_ID, extension
    from diffedit_driver.qt import QApplication, QDockWidget

    app = extension().app
    left = yield from stage.new(64, 48, name="left")
    first = stage.app.activeWindow()
    app.look()
    app.session.change_inputs(source="a horse", target="a zebra")
    second = stage.app.openWindow()
    yield 0.5
    try:
        right = stage.app.createDocument(64, 48, "right", "RGBA", "U8", "sRGB-elle-V2-srgbtrc.icc", 120.0)
        QApplication.setActiveWindow(second.qwindow())
        second.addView(right)
        panels = [window.qwindow().findChild(QDockWidget, DOCKER_ID).panel for window in (first, second)]

        def words():
            return [panel.source.edit.toPlainText() for panel in panels]

        yield lambda: app.session.name == "right"
        app.session.change_inputs(source="a cat", target="a dog")
        yield lambda: words() == ["a horse", "a cat"]
        seen = [[app.session.name, *words()]]
        QApplication.setActiveWindow(first.qwindow())
        yield lambda: app.session.name == "left"
        seen.append([app.session.name, *words()])
        panels[0].source.edit.setPlainText("a cow")
        seen.append([app.session.name, *words()])
        # Another program is in front: Krita would name its first window now.
        QApplication.setActiveWindow(second.qwindow())
        yield lambda: app.session.name == "right"
        QApplication.setActiveWindow(None)
        yield 0.8
        seen.append([app.session.name, *words()])
        return seen
    finally:
        yield 0.3
        right.setModified(False)
        right.close()
        yield lambda: len(stage.app.documents()) == 1
        yield 0.3
        second.qwindow().close()
        yield 0.5
        left.setModified(False)


def test_each_docker_shows_its_windows_picture_and_actions_go_to_the_one_in_front(krita: RemoteKrita) -> None:
    assert krita.run(in_two_windows) == [
        ["right", "a horse", "a cat"],
        ["left", "a horse", "a cat"],
        ["left", "a cow", "a cat"],
        ["right", "a cow", "a cat"],
    ]
