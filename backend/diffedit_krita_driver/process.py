"""One running Krita in a profile of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from diffedit_backend.krita.install import krita_program

from .profile import Profile


def krita_version() -> str:
    """What `krita_version` prints, e.g. "5.1.5"."""
    program = krita_program().with_name("krita_version")
    answer = subprocess.run([str(program)], capture_output=True, text=True, check=True, timeout=60)
    return answer.stdout.strip().splitlines()[-1]


class KritaProcess:
    """Krita with `files` opened; its output goes to `log`. At the latest, the end of its `with` ends it."""

    def __init__(
        self,
        profile: Profile,
        display: str | None,
        files: Sequence[Path] = (),
        extra_environment: Mapping[str, str] | None = None,
    ) -> None:
        self.profile = profile
        self.display = display
        self.log = profile.root / "krita.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(krita_program()), "--nosplash", *map(str, files)],
                env=profile.environment(display) | dict(extra_environment or {}),
                cwd=profile.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # its own process group, so that it can be ended with all that it started
            )

    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._process.poll()

    def wait(self, seconds: float | None = None) -> int:
        """Waits for its end; subprocess.TimeoutExpired when it overstays."""
        return self._process.wait(seconds)

    def stop(self, grace: float = 0.0) -> None:
        """Ends this Krita and what it started: politely for `grace` seconds, then at once. Again: nothing."""
        if self._process.poll() is None and grace > 0:
            os.killpg(self._process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(grace)
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def output(self, characters: int = 3000) -> str:
        """The end of what it printed."""
        return self.log.read_text(errors="replace")[-characters:]

    def __enter__(self) -> KritaProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
