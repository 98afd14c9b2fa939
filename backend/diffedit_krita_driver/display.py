"""A screen of its own for a program that needs one where there is none: Xvfb."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from diffedit_backend.krita.install import needed_program
from diffedit_protocol.errors import InternalError


def has_screen(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a person sits in front of this: an X or a Wayland display is set."""
    return bool(environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"))


class Xvfb:
    """An X server without a screen; `with Xvfb() as display:` gives its name, e.g. ":1"."""

    def __init__(self, width: int = 1400, height: int = 900) -> None:
        program = needed_program("Xvfb", "xvfb")
        reader, writer = os.pipe()
        # With -displayfd the server picks a free number itself, so several run side by side without a clash.
        command = [str(program), "-displayfd", str(writer), "-screen", "0", f"{width}x{height}x24"]
        self._process = subprocess.Popen(
            [*command, "-nolisten", "tcp", "-noreset"],
            pass_fds=[writer],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C at the terminal ends the programs that draw first, then this
        )
        os.close(writer)
        with os.fdopen(reader) as answer:
            number = answer.readline().strip()
        if not number:
            raise InternalError(f"Xvfb ended at once with exit code {self._process.wait()}.")
        self.name = f":{number}"

    def stop(self) -> None:
        """Ends the server; calling it again does nothing."""
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> str:
        return self.name

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def screenshot(display: str, path: Path) -> None:
    """The whole screen of `display` as a PNG."""
    program = needed_program("import", "imagemagick")
    subprocess.run(
        [str(program), "-window", "root", str(path)], env={**os.environ, "DISPLAY": display}, check=True, timeout=120
    )
