"""The Kritas of the user of this machine: their resource folders and kritarc files, plugin enabled or taken out."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from diffedit_protocol.errors import BadInputError
from diffedit_protocol.private_files import data_folder, write_private

from .install import PLUGIN, install_plugin, resource_folder

_FLATPAK = Path(".var") / "app" / "org.kde.krita"
_SNAP = Path("snap") / "krita" / "current"
_STORE = "49800Krita_*"  # below Packages: the publisher's number, then a random string
PROGRAM = "diffedit.exe" if sys.platform == "win32" else "diffedit"
PROGRAM_FILE = "program"  # in the data folder: where the plugin finds the program to start
_SWITCH = f"enable_{PLUGIN}"
KritaKind = Literal["Krita", "Krita (Flatpak)", "Krita (Snap)", "Krita (Microsoft Store)"]


@dataclass(frozen=True)
class KritaInstallation:
    """One Krita: `resources` holds pykrita/ and actions/, `kritarc` its settings.

    `sandboxed`: it sees neither the user's data folder nor the sockets in it, so a backend outside is reached over
    loopback, and tells where it is in a folder of the sandbox's own.
    """

    kind: KritaKind
    resources: Path
    kritarc: Path
    sandboxed: bool = False

    @property
    def data(self) -> Path:
        """The data folder of the plugin in this Krita, as `diffedit_protocol.private_files` finds it in there."""
        return self.resources.parent / "diffedit"

    @property
    def present(self) -> bool:
        """Whether this Krita has ever been started (its folder or settings exist)."""
        return self.resources.is_dir() or self.kritarc.is_file()


def kritas(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> tuple[KritaInstallation, ...]:
    """Every Krita that this user may have, the ordinary one first; an AppImage is an ordinary one.

    Source: Krita's manual, "Resource Management" and its FAQ; the folders that Flatpak and Snap give a program.
    """
    ordinary = resource_folder(environ, platform)
    if platform == "win32":
        local = Path(environ["LOCALAPPDATA"])
        caches = [package / "LocalCache" for package in sorted((local / "Packages").glob(_STORE))]
        return (
            KritaInstallation("Krita", ordinary, local / "kritarc"),
            *(
                KritaInstallation("Krita (Microsoft Store)", cache / "Roaming" / "krita", cache / "Local" / "kritarc")
                for cache in caches
            ),
        )
    home = Path(environ["HOME"])
    if platform == "darwin":
        return (KritaInstallation("Krita", ordinary, home / "Library" / "Preferences" / "kritarc"),)
    settings = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "kritarc"
    flatpak, snap = home / _FLATPAK, home / _SNAP
    return (
        KritaInstallation("Krita", ordinary, settings),
        KritaInstallation("Krita (Flatpak)", flatpak / "data" / "krita", flatpak / "config" / "kritarc", True),
        KritaInstallation("Krita (Snap)", snap / ".local" / "share" / "krita", snap / ".config" / "kritarc", True),
    )


def sandboxed_data_folders() -> tuple[Path, ...]:
    """The data folders of the plugin in the sandboxed Kritas that this user has started."""
    try:
        return tuple(krita.data for krita in kritas() if krita.sandboxed and krita.present)
    except KeyError:  # no HOME: a service's user has no Krita
        return ()


def chosen(resources: Path | None = None) -> tuple[KritaInstallation, ...]:
    """The Kritas to install into: those present, or the ordinary one if none has been started yet.

    `resources` names one resource folder instead; its kritarc is the ordinary Krita's.
    """
    known = kritas()
    if resources is not None:
        if not resources.is_dir():
            raise BadInputError(f"{resources} is no folder. Krita shows its own under Settings > Manage Resources.")
        return (KritaInstallation("Krita", resources, known[0].kritarc),)
    return tuple(krita for krita in known if krita.present) or known[:1]


def install(krita: KritaInstallation) -> None:
    """Copy the plugin into `krita` and enable it. An older copy is replaced; every other setting stays.

    The plugin is told where this `diffedit` is, so that *Start* in Krita finds it.
    """
    krita.resources.mkdir(parents=True, exist_ok=True)
    install_plugin(krita.resources)
    write_private(data_folder() / PROGRAM_FILE, f"{Path(sys.executable).with_name(PROGRAM)}\n")
    _write(krita.kritarc, switched(_read(krita.kritarc), "true"))


def uninstall(krita: KritaInstallation) -> bool:
    """Take out plugin, switch in kritarc and the note of where `diffedit` is. False where there was no plugin."""
    pykrita = krita.resources / "pykrita"
    files = (pykrita / f"{PLUGIN}.desktop", krita.resources / "actions" / f"{PLUGIN}.action")
    found = (pykrita / PLUGIN).is_dir() or any(file.exists() for file in files)
    shutil.rmtree(pykrita / PLUGIN, ignore_errors=True)
    for file in files:
        file.unlink(missing_ok=True)
    (data_folder() / PROGRAM_FILE).unlink(missing_ok=True)
    for folder in (pykrita, krita.resources / "actions", krita.resources, data_folder()):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    if krita.kritarc.is_file():
        settings = switched(_read(krita.kritarc), None)
        if settings:
            _write(krita.kritarc, settings)
        else:
            krita.kritarc.unlink()
    return found


def switched(kritarc: str, value: str | None) -> str:
    """The text of a kritarc with `enable_diffedit` in its section [python] set to `value`, or taken out with None.

    A section [python] that had nothing else goes with it.
    """
    before = kritarc.splitlines()
    lines = [line for line in before if not re.match(rf"\s*{_SWITCH}\s*=", line)]
    if value is not None:
        if "[python]" not in lines:
            lines += ([""] if lines else []) + ["[python]"]
        lines.insert(lines.index("[python]") + 1, f"{_SWITCH}={value}")
    elif len(lines) < len(before):
        kept = re.sub(r"^\[python\]\n\s*(?=\[|\Z)", "", "\n".join([*lines, ""]), flags=re.M)
        lines = kept.rstrip().splitlines()
    return "\n".join(lines) + "\n" if lines else ""


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = path.with_name(path.name + ".diffedit-new")
    whole.write_text(text, encoding="utf-8")
    whole.replace(path)  # never half a kritarc
