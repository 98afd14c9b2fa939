"""Every text that an artist reads goes through `tr`: English in the code, translated by `locale/LANGUAGE.po`.

The catalogues are read as they are written, so that a translator edits a .po file and starts Krita anew: no compiler.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable
from pathlib import Path

from .qt import QtCore

LOCALE = Path(__file__).resolve().parent / "locale"
LONGEST_NAME = 60  # characters: a PSD of Krita's cannot be opened with a layer's name above 255 bytes
# What stands for a name or a text of the artist, which may be of any length; paths and reasons are told in full.
NAMES = frozenset(("document", "family", "host", "layer", "model", "name", "source", "target", "where"))
LANGUAGES = {"en": "English", "de": "Deutsch", "zh_CN": "简体中文"}

_catalogue: dict[str, str] = {}


def tr(text: str, /, **values: object) -> str:
    """`text` in the artist's language, its {names} filled in with `values`; English where there is no translation. Of
    the values that are NAMES at most LONGEST_NAME characters are shown."""
    translated = _catalogue.get(text) or text
    values = {key: shortened(str(value)) if key in NAMES else value for key, value in values.items()}
    return translated.format(**values) if values else translated


def shortened(text: str, characters: int = LONGEST_NAME) -> str:
    """At most that many characters, with … at the end where some were left out."""
    return text if len(text) <= characters else text[: characters - 1].rstrip() + "…"


def use_language(language: str) -> None:
    """Translates from now on to `language`, a key of LANGUAGES. Texts that already stand on a widget stay."""
    _catalogue.clear()
    path = LOCALE / f"{language}.po"
    if path.is_file():
        _catalogue.update(read_po(path.read_text(encoding="utf-8")))


def artists_language() -> str:
    """The language of LANGUAGES that Krita is shown in: Krita sets LANGUAGE when one was chosen in its menu."""
    wanted = [code for code in os.environ.get("LANGUAGE", "").split(":") if code]
    return best_language(wanted or QtCore.QLocale.system().uiLanguages())


def best_language(wanted: Iterable[str]) -> str:
    """The first of `wanted` ("de-AT", "zh_CN", ...) that there is a catalogue for, English if none."""
    for code in wanted:
        code = code.replace("-", "_")
        for language in LANGUAGES:
            if code == language or code.split("_")[0] == language.split("_")[0]:
                return language
    return "en"


def read_po(text: str) -> dict[str, str]:
    """The translations of a gettext catalogue without plural forms: msgid -> msgstr. ValueError for what it is not."""
    entries: dict[str, str] = {}
    parts: dict[str, str] = {}
    field = ""
    for number, line in enumerate([*text.splitlines(), ""], 1):
        line = line.strip()
        if line.startswith(("msgid ", "msgstr ")):
            field, _, line = line.partition(" ")
            parts[field] = ""
        if line.startswith('"') and field:
            parts[field] += ast.literal_eval(line)
        elif not line:
            if parts.get("msgid"):
                entries[parts["msgid"]] = parts.get("msgstr", "")
            parts, field = {}, ""
        elif not line.startswith("#"):
            raise ValueError(f"Line {number} of the catalogue is none of a comment, msgid, msgstr or text: {line!r}")
    return entries
