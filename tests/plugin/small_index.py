"""A package index on loopback, PEP 503 with hashes and stand-in wheels; it can break off, wait, or refuse."""

from __future__ import annotations

import base64
import functools
import hashlib
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PROGRAM = """\
import sys

def main():
    print("diffedit {version}")
    return 0
"""


def write_wheel(
    folder: Path, name: str, version: str, files: Mapping[str, str], requires: tuple[str, ...] = (), script: str = ""
) -> Path:
    """A pure-Python wheel with `files`; `script`: "command = module:function"."""
    stem = f"{name.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nProvides-Extra: backend\n"
    metadata += "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
    entries = dict(files)
    entries[f"{info}/METADATA"] = metadata
    entries[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    if script:
        entries[f"{info}/entry_points.txt"] = f"[console_scripts]\n{script}\n"
    record = "".join(
        f"{path},sha256={_urlsafe(text.encode())},{len(text.encode())}\n" for path, text in entries.items()
    )
    entries[f"{info}/RECORD"] = record + f"{info}/RECORD,,\n"
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in entries.items():
            archive.writestr(member, text)
    return path


def _urlsafe(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def write_backend(folder: Path, version: str) -> Path:
    """A stand-in for the backend's wheel: the command `diffedit`, and the extra that needs torch and its kin."""
    needs = tuple(f"{name}; extra == 'backend'" for name in ("torch", "diffusers", "transformers"))
    files = {"diffedit_stand_in.py": PROGRAM.format(version=version)}
    return write_wheel(folder, "krita-diffedit", version, files, needs, "diffedit = diffedit_stand_in:main")


def write_libraries(folder: Path) -> None:
    """Stand-ins for torch, diffusers and transformers."""
    for name in ("torch", "diffusers", "transformers"):
        write_wheel(folder, name, "9.0", {f"{name}/__init__.py": '__version__ = "9.0"\n'})


def fetch_uv(folder: Path, version: str) -> Path:
    """The real wheel of uv for this machine, from the package index that pip is set up for."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), f"uv=={version}"]
    subprocess.run(command, check=True, timeout=240)
    return next(folder.glob("uv-*.whl"))


@functools.cache
def _sha256(path: Path, changed: int) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


class SmallIndex:
    """`wheels`: the files served. `cut_after`: breaks off every file after so many bytes. `asked`: the paths."""

    def __init__(self, wheels: Path) -> None:
        self.wheels = wheels
        self.cut_after: int | None = None
        self.status: int | None = None
        self.asked: list[str] = []
        self.gate = threading.Event()  # cleared: files wait, so that a download can be met in the middle
        self.gate.set()
        self.waiting = threading.Event()
        self.url = ""

    @contextmanager
    def running(self) -> Iterator[SmallIndex]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_port}/simple"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield self
        finally:
            self.gate.set()
            server.shutdown()
            server.server_close()
            thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                index.asked.append(self.path)
                if index.status is not None:
                    self.send_error(index.status)
                elif self.path.startswith("/simple/"):
                    self._page(self.path.split("/")[2])
                else:
                    self._file(index.wheels / self.path.rpartition("/")[2])

            def do_HEAD(self) -> None:
                self.send_error(405)

            def _page(self, project: str) -> None:
                stem = project.replace("-", "_")
                wheels = sorted(path for path in index.wheels.glob("*.whl") if path.name.split("-")[0] == stem)
                if not wheels:
                    self.send_error(404)
                    return
                links = ""
                for path in wheels:
                    sha256 = _sha256(path, path.stat().st_mtime_ns)
                    links += f'<a href="/files/{path.name}#sha256={sha256}">{path.name}</a>\n'
                self._send(f"<!DOCTYPE html><html><body>{links}</body></html>".encode(), "text/html")

            def _file(self, path: Path) -> None:
                size = path.stat().st_size
                index.waiting.set()
                index.gate.wait(240)
                begin = 0
                asked = self.headers.get("Range", "")
                if asked.startswith("bytes=") and asked.endswith("-"):
                    begin = int(asked[6:-1])
                self.send_response(206 if begin else 200)
                self.send_header("Content-Type", "application/octet-stream")
                self.send_header("Content-Length", str(size - begin))
                if begin:
                    self.send_header("Content-Range", f"bytes {begin}-{size - 1}/{size}")
                self.end_headers()
                left = size - begin if index.cut_after is None else min(size - begin, index.cut_after)
                with path.open("rb") as file:
                    file.seek(begin)
                    while left and (chunk := file.read(min(left, 1 << 20))):
                        self.wfile.write(chunk)
                        left -= len(chunk)

            def _send(self, body: bytes, kind: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler
