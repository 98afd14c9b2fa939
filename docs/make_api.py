"""Writes docs/api.md from the docstrings: `.venv/bin/python docs/make_api.py`."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

OUT = Path(__file__).parent / "api.md"
HEAD = """# API

Made by `docs/make_api.py` from the docstrings. Everything here has types; `py.typed` is shipped. Pictures
are 8-bit sRGB. Sizes are (H, W) in px.

```python
from diffedit_backend import DiffEditEngine, edit_picture, load_model, paste
from diffedit_protocol.messages import EditRequest

engine = DiffEditEngine(load_model("bundled"))
outcome = edit_picture(engine, EditRequest("a horse on grass", "a zebra on grass"), picture)  # (H, W, 3 or 4) uint8
result = paste(picture, outcome, 0)
```

With code that was written for the library's deprecated pipeline: `from diffedit_backend import DiffEditPipeline`.
"""
# Module, and what of it is for others to use.
PUBLIC = {
    "diffedit_backend.editing": ("edit_picture", "paste"),
    "diffedit_backend.outcome": ("EditOutcome", "Edit", "EditWarning"),
    "diffedit_backend.models": ("load_model", "ModelOptions", "with_adapters", "LoadedModel"),
    "diffedit_backend.models.captioning": ("load_captioner", "CaptioningModel"),
    "diffedit_backend.models.suggesting": ("load_suggester", "SuggestingModel"),
    "diffedit_backend.method.engine": ("DiffEditEngine", "Subject"),
    "diffedit_backend.pipeline.pipeline": ("DiffEditPipeline",),
    "diffedit_backend.pipeline.components": ("PipelineComponents",),
    "diffedit_backend.method.steps": ("Step",),
    "diffedit_protocol.messages": ("EditRequest", "Adapter", "PictureRef", "PlaneRef", "Bounds", "Manifest"),
    "diffedit_protocol.client": ("Client", "Timeouts"),
    "diffedit_protocol.connection": ("Connection",),
    "diffedit_protocol.errors": ("DiffEditError",),
}


def main() -> None:
    """Write the document."""
    OUT.write_text(page(), encoding="utf-8")


def page() -> str:
    """The document; a test compares it with what is written."""
    lines = [HEAD]
    for module_name, names in PUBLIC.items():
        module = importlib.import_module(module_name)
        lines.append(f"## `{module_name}`\n\n{_text(module)}\n")
        for name in names:
            lines += _described(name, getattr(module, name))
    return "\n".join(lines).rstrip() + "\n"


def _described(name: str, thing: Any) -> list[str]:
    if not inspect.isclass(thing):
        return [f"### `{name}{_signature(thing)}`\n\n{_text(thing)}\n"]
    lines = [f"### class `{name}{_signature(thing)}`\n\n{_text(thing)}\n"]
    for member, value in vars(thing).items():
        function = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
        if (
            member.startswith("_")
            or not inspect.getdoc(function)
            or not (inspect.isfunction(function) or isinstance(function, property))
        ):
            continue
        signature = _signature(function) if inspect.isfunction(function) else ""
        lines.append(f"* `{member}{signature}`: {' '.join(_text(function).split())}")
    return [*lines, ""]


def _signature(thing: Any) -> str:
    signature = inspect.signature(thing)
    short = [
        # "Pil" names transformers' stand-in where torchvision is not installed.
        p.replace(annotation=p.annotation.__name__.removesuffix("Pil"))
        if inspect.isclass(p.annotation) and p.annotation is not p.empty
        else p
        for p in signature.parameters.values()
    ]
    # Annotations that are kept as text come in quotes.
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(signature.replace(parameters=short)))
    return re.sub(r"<function (\w+) at 0x[0-9a-f]+>", r"\1", text).removesuffix(" -> None")


def _text(thing: Any) -> str:
    return inspect.getdoc(thing) or ""


if __name__ == "__main__":
    main()
