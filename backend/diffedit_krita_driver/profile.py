"""A Krita profile of its own: nothing of the person's Krita is read or written."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

# Quiet, small and predictable: no news, no session, no autosave, no OpenGL (a virtual screen has it in software only).
_KRITARC = """\
[General]
MDIRubberband=false
NewsWidget=false
EnableSingleApplication=false
OnStartup=0
SessionOnStartup=0
AutoSaveInterval=0
createBackupFile=false
showRootLayer=false
useOpenGL={opengl}
canvasState={state}
[theme]
Theme={theme}
[python]
{plugins}
"""
_KRITADISPLAYRC = """\
[General]
OpenGLRenderer={renderer}
canvasState={state}
LogUsage=false
EnableHiDPI={hidpi}
"""


@dataclass(frozen=True)
class Look:
    """How a Krita looks. `opengl`: the canvas is drawn by it; `scale`: device px in a logical one, as on a screen of
    high resolution."""

    theme: str = "Krita dark"
    opengl: bool = False
    scale: int = 1


DEFAULT_LOOK = Look()


@dataclass(frozen=True)
class Profile:
    """A folder that is HOME, data, settings and temporary folder of one Krita."""

    root: Path

    @property
    def resources(self) -> Path:
        """Krita's resource folder inside this profile."""
        return self.root / "data" / "krita"

    @property
    def diffedit_home(self) -> Path:
        """Where plugin and backend of this profile keep keys and settings, and find each other."""
        return self.root / "diffedit"

    def create(self, plugins: Iterable[str], look: Look = DEFAULT_LOOK) -> None:
        """Makes the folders and settings, with `plugins` enabled."""
        for folder in ("home", "data/krita/pykrita", "config", "cache", "run", "tmp", "diffedit"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        for private in ("run", "diffedit"):
            (self.root / private).chmod(0o700)
        enabled = "\n".join(f"enable_{name}=true" for name in plugins)
        values = {
            "opengl": str(look.opengl).lower(),
            "state": "OPENGL_SUCCESS" if look.opengl else "OPENGL_FAILED",
            "renderer": "desktop" if look.opengl else "none",
            "hidpi": str(look.scale != 1).lower(),  # whether QT_SCALE_FACTOR counts
        }
        (self.root / "config" / "kritarc").write_text(_KRITARC.format(theme=look.theme, plugins=enabled, **values))
        (self.root / "config" / "kritadisplayrc").write_text(_KRITADISPLAYRC.format(**values))

    def environment(self, display: str | None) -> dict[str, str]:
        """The environment for a Krita in this profile: its own folders, the system's Python, no session bus.

        `display` is the X display of a virtual screen; None keeps the person's own screen (X or Wayland).
        """
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",  # the system's Python, not a virtual environment's
            "LANG": os.environ.get("LANG", "C.UTF-8") if display is None else "C.UTF-8",
            "HOME": str(self.root / "home"),
            "XDG_DATA_HOME": str(self.root / "data"),
            "XDG_CONFIG_HOME": str(self.root / "config"),
            "XDG_CACHE_HOME": str(self.root / "cache"),
            "XDG_RUNTIME_DIR": str(self.root / "run"),
            "TMPDIR": str(self.root / "tmp"),
            "DIFFEDIT_HOME": str(self.diffedit_home),
            "DBUS_SESSION_BUS_ADDRESS": "disabled:",  # else Qt starts a bus daemon that outlives Krita
            "NO_AT_BRIDGE": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONNOUSERSITE": "1",
            "PYTHONFAULTHANDLER": "1",  # a Python trace in the log when Krita segfaults
        }
        if display is not None:
            return environment | {"DISPLAY": display, "LIBGL_ALWAYS_SOFTWARE": "1", "QT_X11_NO_MITSHM": "1"}
        own = ("DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "QT_SCALE_FACTOR", "QT_SCREEN_SCALE_FACTORS")
        # X cookies are looked for in HOME and Wayland's socket in the runtime folder, so both are named in full.
        kept = {name: os.environ[name] for name in own if name in os.environ}
        if "DISPLAY" in kept:
            kept.setdefault("XAUTHORITY", str(Path.home() / ".Xauthority"))
        if "WAYLAND_DISPLAY" in kept and "XDG_RUNTIME_DIR" in os.environ:
            kept["WAYLAND_DISPLAY"] = str(Path(os.environ["XDG_RUNTIME_DIR"]) / kept["WAYLAND_DISPLAY"])
        return environment | kept


def cache_folder() -> Path:
    """Where a profile with Krita's resource database already built is kept: this system's folder for caches."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "krita-diffedit"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "krita-diffedit"


def warm_profile(root: Path, version: str, build: Callable[[Profile], None]) -> Profile:
    """A profile in `root` whose resource database is built already (Krita's first start takes some 20 s more).

    The database (87 MB) is made once per Krita `version` by `build`, which runs Krita once in the profile that it
    is given, kept in the cache folder and copied from there.
    """
    kept = cache_folder() / f"profile-{version}"
    if not kept.is_dir():
        making = Profile(kept.with_name(f"{kept.name}-making-{os.getpid()}"))
        shutil.rmtree(making.root, ignore_errors=True)
        try:
            making.create([])
            build(making)
            for folder in ("home", "config", "cache", "run", "tmp", "diffedit", "data/krita/pykrita"):
                shutil.rmtree(making.root / folder, ignore_errors=True)
            # Another run may have been first: its profile is as good, and a rename onto a filled folder fails.
            with contextlib.suppress(OSError):
                making.root.rename(kept)
        finally:
            shutil.rmtree(making.root, ignore_errors=True)
    shutil.copytree(kept, root, symlinks=True, dirs_exist_ok=True)
    return Profile(root)
