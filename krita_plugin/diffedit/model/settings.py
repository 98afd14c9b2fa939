"""What the artist has set, kept beside the keys in the user's data folder (Krita deletes the plugin's own folder when a
newer version is imported)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from diffedit_protocol.private_files import data_folder, read_private, write_private

from .ports import InputKind, MaskForm, ResultForm

SETTINGS_FILE = "plugin.json"
REMOTE_FILE = "remote.json"  # the pasted connection: a secret, so a private file of its own
BackendChoice = Literal["local", "remote"]
MASK_FORMS, RESULT_FORMS, BACKENDS, INPUTS = (
    get_args(kind) for kind in (MaskForm, ResultForm, BackendChoice, InputKind)
)


@dataclass(frozen=True)
class Settings:
    """`backend`: where edits run. `program`: path of `diffedit`, empty to look for it. `mask_form`: how a found mask is
    shown. `input`: what an edit works on, all visible layers or the active one.
    `result_form`: a layer with a selection mask ("layer") or a transparency mask ("transparency"), or a "group" with
    the latter. `add_single`: a single result becomes a layer at once. `context`: px around a selection that the model
    sees too. `model`: empty for the backend's own choice. `language`: empty for Krita's. `unfolded`: which parts of the
    docker stand open.
    `backend_folder`: where the plugin installs the backend, empty for the data folder. `index_url`, `torch_index_url`:
    mirrors of the Python package index and of torch's, empty for the public ones."""

    backend: BackendChoice = "local"
    program: str = ""
    start_with_krita: bool = False
    stop_with_krita: bool = True
    model: str = ""
    mask_form: MaskForm = "overlay"
    result_form: ResultForm = "layer"
    input: InputKind = "visible"
    add_single: bool = True
    context: int = 64
    show_preview: bool = True
    language: str = ""
    history_kib: int = 256
    backend_folder: str = ""
    index_url: str = ""
    torch_index_url: str = ""
    unfolded: tuple[str, ...] = ("results",)

    def __post_init__(self) -> None:
        allowed_values = {"backend": BACKENDS, "mask_form": MASK_FORMS, "result_form": RESULT_FORMS, "input": INPUTS}
        for name, allowed in allowed_values.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}")
        if not 0 <= self.context <= 1024:
            raise ValueError(f"context must be 0 to 1024 px, not {self.context}")


class Store:
    """The settings, prompts and presets on disk. `complaint` tells of a file that could not be read."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = data_folder() if folder is None else folder
        self.complaint = ""
        self._listeners: list[Callable[[Settings], None]] = []
        self._values = self._read()
        self.settings = self._parse(self._values.get("settings", {}))

    @property
    def remote_file(self) -> Path:
        return self.folder / REMOTE_FILE

    def listen(self, listener: Callable[[Settings], None]) -> None:
        """`listener` is called with the settings whenever they change."""
        self._listeners.append(listener)

    def change(self, **values: Any) -> None:
        """Replaces some of the settings, writes them and tells the listeners."""
        changed = dataclasses.replace(self.settings, **values)
        if changed == self.settings:
            return
        self.settings = changed
        self.put("settings", dataclasses.asdict(changed))
        for listener in self._listeners:
            listener(changed)

    def get(self, name: str, default: Any) -> Any:
        """What `put` kept under `name`, or `default`."""
        return self._values.get(name, default)

    def put(self, name: str, value: Any) -> None:
        """Keeps `value` (what JSON knows) under `name`."""
        self._values[name] = value
        write_private(self.folder / SETTINGS_FILE, json.dumps(self._values, indent=1, ensure_ascii=False) + "\n")

    def _read(self) -> dict[str, Any]:
        path = self.folder / SETTINGS_FILE
        try:
            values = json.loads(read_private(path))
            if not isinstance(values, dict):
                raise ValueError(f"a {type(values).__name__} instead of names and values")
        except FileNotFoundError:
            return {}
        except ValueError as error:
            aside = path.with_suffix(".unreadable.json")
            path.replace(aside)
            self.complaint = f"The settings could not be read ({error}) and begin anew. The old file is '{aside}'."
            return {}
        return values

    def _parse(self, values: dict[str, Any]) -> Settings:
        """The settings of this version: names of another version are left out, a bad value is told of."""
        known = {field.name for field in dataclasses.fields(Settings)}
        kept: dict[str, Any] = {
            name: tuple(v) if isinstance(v, list) else v for name, v in values.items() if name in known
        }
        try:
            return Settings(**kept)
        except (ValueError, TypeError) as error:
            self.complaint = f"The settings begin anew: {error}."
            return Settings()
