"""Runs Python functions inside a running Krita, from outside: the outer half of the driver plugin."""

from __future__ import annotations

import inspect
import json
import os
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from diffedit_backend.krita.install import install_plugin

from .display import screenshot
from .process import KritaProcess, krita_version
from .profile import DEFAULT_LOOK, Look, Profile, warm_profile

DRIVER = "diffedit_driver"
_DRIVER_SOURCE = Path(__file__).with_name("plugin")
START_SECONDS = 120.0  # 4 to 9 s on a quiet machine
FIRST_START_SECONDS = 300.0  # 26 s on a quiet machine: the resource database is built
_POLL_SECONDS = 0.02


class KritaTaskError(AssertionError):
    """A task inside Krita raised, did not end, met a dialog, or took Krita down with it. The text tells all of it."""


class RemoteKrita:
    """A Krita in `profile` with the driver and the plugins of `plugins` (folders of Krita plugins) enabled.

    `with RemoteKrita(...) as krita: krita.run(function, x=1)`. `display` None: on the person's own screen. `look` None:
    the settings that an earlier Krita left in `profile` stay as they are.
    """

    def __init__(
        self,
        profile: Profile,
        display: str | None,
        plugins: Sequence[tuple[Path | None, str]] = (),
        files: Sequence[Path] = (),
        extra_environment: Mapping[str, str] | None = None,
        look: Look | None = DEFAULT_LOOK,
        start_seconds: float = START_SECONDS,
    ) -> None:
        names = [install_plugin(profile.resources, _DRIVER_SOURCE, DRIVER, vendor=False)]
        names += [install_plugin(profile.resources, source, name) for source, name in plugins]
        if look is not None:
            profile.create(names, look)
        self.folder = profile.root / "driver"
        self.folder.mkdir(exist_ok=True)
        for left_over in self.folder.iterdir():
            left_over.unlink()
        self.profile = profile
        self.display = display
        self._count = 0
        environment = {"DIFFEDIT_DRIVER": str(self.folder)} | dict(extra_environment or {})
        if look is not None and look.scale != 1:
            environment["QT_SCALE_FACTOR"] = str(look.scale)
        self.process = KritaProcess(profile, display, files, environment)
        try:
            self._wait(self.folder / "ready.json", start_seconds, "start")
        except BaseException:  # a Ctrl-C too must leave nothing running
            self.stop()
            raise

    def run(self, function: Callable[..., Any], /, *, limit: float = 240.0, **arguments: Any) -> Any:
        """Runs `function(stage, **arguments)` on Krita's main thread and returns its value.

        The function travels as source text: it imports what it needs itself and of its module sees only `Path`.
        Arguments and value are what JSON knows; paths arrive as text. KritaTaskError when anything in Krita went wrong
        meanwhile.
        """
        lines, first = inspect.getsourcelines(function)
        source = textwrap.dedent("".join(lines))
        task = {"source": source, "line": first, "file": inspect.getsourcefile(function)}
        self._count += 1
        name = f"{self._count:04d}"
        described = task | {"function": function.__name__, "arguments": arguments}
        partial = self.folder / f"{name}.partial"
        partial.write_text(json.dumps(described, default=_path_text))
        os.replace(partial, self.folder / f"{name}.task.json")
        result = self._wait(self.folder / f"{name}.result.json", limit, function.__name__)
        bad = [result["error"], *result["uncaught"], *(f"A dialog stood in the way: {d}" for d in result["dialogs"])]
        if any(bad):
            raise KritaTaskError("\n".join([*filter(None, bad), *result["log"]]))
        return result["value"]

    def quit(self, seconds: float = 120.0) -> int:
        """Closes every document without a question and Krita by its own menu action; returns its exit code."""
        self.run(_quit)
        return self.process.wait(seconds)

    def _wait(self, path: Path, limit: float, what: str) -> dict[str, Any]:
        deadline = time.monotonic() + limit
        while not path.exists():
            code = self.process.exit_code()
            if code is not None and not path.exists():  # it may have answered since, and ended
                raise KritaTaskError(f"{what}: Krita ended with exit code {code}.\n{self.process.output()}")
            if time.monotonic() > deadline:
                shot = self.folder / f"{what}-too-late.png"
                if self.process.display is not None:
                    screenshot(self.process.display, shot)
                self.process.stop()
                raise KritaTaskError(f"{what}: not done after {limit:.0f} s, see {shot}\n{self.process.output()}")
            time.sleep(_POLL_SECONDS)
        value: dict[str, Any] = json.loads(path.read_text())
        return value

    def stop(self) -> None:
        """Ends Krita at once."""
        self.process.stop()

    def __enter__(self) -> RemoteKrita:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def fresh_profile(root: Path, display: str) -> Profile:
    """A private profile in `root`, copied from this machine's warm one (built now if this is the first time)."""

    def build(profile: Profile) -> None:
        with RemoteKrita(profile, display, start_seconds=FIRST_START_SECONDS) as krita:
            krita.quit()

    return warm_profile(root, krita_version(), build)


def _path_text(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"A task's argument must fit into JSON, not {value!r}")


def _quit(stage):  # type: ignore[no-untyped-def]
    from diffedit_driver.qt import QTimer

    yield from stage.close_all()
    QTimer.singleShot(100, lambda: stage.app.action("file_quit").trigger())
