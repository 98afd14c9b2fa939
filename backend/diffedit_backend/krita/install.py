"""Puts the plugin into a Krita resource folder: `pykrita/`, `actions/`, and the protocol package inside the plugin.

What is written is the same tree that the plugin's zip for Krita's own importer holds.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import diffedit_protocol
from diffedit_protocol.errors import BadInputError

PLUGIN = "diffedit"
_PACKAGE = Path(__file__).resolve().parents[1]
_NOT_CARRIED = shutil.ignore_patterns("__pycache__", "*.pyc")


def plugin_source() -> Path:
    """The folder that holds diffedit.desktop, diffedit.action and diffedit/: inside the wheel, or in the checkout."""
    for folder in (_PACKAGE / "krita_plugin", _PACKAGE.parents[1] / "krita_plugin"):
        if (folder / PLUGIN).is_dir():
            return folder
    raise BadInputError(f"This installation of krita-diffedit holds no Krita plugin (looked beside {_PACKAGE}).")


def install_plugin(resources: Path, source: Path | None = None, name: str = PLUGIN, vendor: bool = True) -> str:
    """Copies plugin `name` from `source` into the resource folder `resources`; returns the name to enable in kritarc.

    An older copy is replaced as a whole, so that no file of it stays behind. With `vendor`, the protocol package
    goes to `diffedit/_vendor/diffedit_protocol`, where the plugin finds it without an installed Python package.
    """
    source = plugin_source() if source is None else source
    if not (source / name).is_dir() or not (source / f"{name}.desktop").is_file():
        raise BadInputError(f"No Krita plugin {name!r} in {source}: {name}/ and {name}.desktop are needed.")
    pykrita = resources / "pykrita"
    pykrita.mkdir(parents=True, exist_ok=True)
    aside = pykrita / f".{name}-new"  # the older copy stays until this one is whole
    shutil.rmtree(aside, ignore_errors=True)
    try:
        shutil.copytree(source / name, aside, ignore=_NOT_CARRIED)
        if vendor:
            protocol = Path(diffedit_protocol.__file__).resolve().parent
            vendored = aside / "_vendor" / protocol.name
            shutil.rmtree(vendored, ignore_errors=True)
            shutil.copytree(protocol, vendored, ignore=_NOT_CARRIED)
        shutil.rmtree(pykrita / name, ignore_errors=True)
        aside.rename(pykrita / name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    shutil.copy2(source / f"{name}.desktop", pykrita)
    if (source / f"{name}.action").is_file():
        (resources / "actions").mkdir(exist_ok=True)
        shutil.copy2(source / f"{name}.action", resources / "actions")
    return name
