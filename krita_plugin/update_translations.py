"""Brings the catalogues up to date with the texts in the code: `python krita_plugin/update_translations.py`.

Every `tr("...")` of the plugin goes into `locale/diffedit.pot`; every `locale/LANGUAGE.po` gets the new texts without a
translation, keeps the translations it has, and loses the texts that are gone.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

PLUGIN = Path(__file__).resolve().parent / "diffedit"
LOCALE = PLUGIN / "locale"
TEMPLATE = LOCALE / "diffedit.pot"
HEAD = """\
# DiffEdit for Krita: {name}. Under the same licence as the plugin.
msgid ""
msgstr "Content-Type: text/plain; charset=UTF-8\\n"
"""


def texts() -> dict[str, list[str]]:
    """Every text of the plugin, with the files that it stands in. ValueError for a `tr` of anything but a literal."""
    found: dict[str, list[str]] = {}
    for path in sorted(PLUGIN.rglob("*.py")):
        if "_vendor" in path.parts:
            continue
        name = path.relative_to(PLUGIN).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "tr":
                text = node.args[0]
                if not (isinstance(text, ast.Constant) and isinstance(text.value, str)):
                    raise ValueError(f"{name}:{node.lineno}: tr() takes a text as it stands, not an expression")
                files = found.setdefault(text.value, [])
                if name not in files:
                    files.append(name)
    return found


def catalogue(name: str, found: dict[str, list[str]], translations: dict[str, str]) -> str:
    """The catalogue's text, in the order of the code."""
    entries = [HEAD.format(name=name)]
    for text, files in found.items():
        where = "".join(f"#: {file}\n" for file in files)
        entries.append(f"{where}msgid {_quoted(text)}\nmsgstr {_quoted(translations.get(text, ''))}\n")
    return "\n".join(entries)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def main() -> int:
    sys.path.insert(0, str(PLUGIN.parent))
    from diffedit.translation import LANGUAGES, read_po

    found = texts()
    TEMPLATE.write_text(catalogue("template", found, {}), encoding="utf-8")
    for language, name in LANGUAGES.items():
        path = LOCALE / f"{language}.po"
        if language == "en":
            continue
        known = read_po(path.read_text(encoding="utf-8")) if path.is_file() else {}
        path.write_text(catalogue(name, found, known), encoding="utf-8")
        missing = [text for text in found if not known.get(text)]
        print(f"{path.name}: {len(found) - len(missing)} of {len(found)} translated")
        for text in missing:
            print(f"  {text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
