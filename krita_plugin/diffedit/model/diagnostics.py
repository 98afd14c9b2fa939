"""A report on the plugin, Krita and the backend, to be copied into a bug report. It holds no key and no prompt."""

from __future__ import annotations

import platform
import sys
from typing import TYPE_CHECKING

import msgpack
import zmq
from diffedit_protocol import PROTOCOL_VERSION, __version__

from ..canvas import documents
from ..canvas.refusal import CanvasRefusal
from ..qt import QtCore
from ..translation import artists_language

if TYPE_CHECKING:
    from ..app import App

LOG_LINES = 40


def report(app: App) -> str:
    """The report as text."""
    state = app.link.state
    lines = [
        f"DiffEdit plugin {__version__}, protocol {PROTOCOL_VERSION}",
        f"Krita {documents.krita_version()}, Qt {QtCore.qVersion()}, language {artists_language()}",
        f"Python {platform.python_version()} at {sys.prefix}",
        f"pyzmq {zmq.pyzmq_version()} (libzmq {zmq.zmq_version()}), msgpack {'.'.join(map(str, msgpack.version))}",
        f"System {platform.platform()}",
        "",
        f"Backend: {app.settings.backend}, {state.kind}" + (f" at {state.host}" if state.host else ""),
    ]
    if state.error is not None:
        lines += [f"  {state.error.code}: {state.error.sentence}", f"  {state.error.detail}"]
    if state.info is not None:
        info = state.info
        lines += [
            f"  version {info.version} on {info.device}",
            f"  models {', '.join(model.name for model in info.models)}",
            f"  capabilities {', '.join(info.capabilities)}",
        ]
    backend = app.backend
    lines += [f"  started by this Krita: {backend.started_here}, {backend.state} {backend.problem}".rstrip(), ""]
    lines += [_document_line(), "", f"The last {LOG_LINES} lines of the backend that was started here:"]
    lines += list(backend.lines)[-LOG_LINES:] or ["(none)"]
    return "\n".join(lines)


def _document_line() -> str:
    try:
        document = documents.active_document()
    except CanvasRefusal:
        return "Document: none"
    return (
        f"Document: {document.width()} × {document.height()} px, {document.colorModel()} {document.colorDepth()}, "
        f"{document.colorProfile()}"
    )
