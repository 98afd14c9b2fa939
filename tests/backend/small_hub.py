"""A model hub on loopback: one repository, of the files in a folder, in the dialect that huggingface_hub speaks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

REPOSITORY = "studio/paint"
COMMIT = "c" * 40


class SmallHub:
    """`asked`: method and path of every request so far. `cut`: break off every file in the middle."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self.cut = False
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_HEAD(self) -> None:
                hub._answer(self, body=False)

            def do_GET(self) -> None:
                hub._answer(self, body=True)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def _answer(self, request: BaseHTTPRequestHandler, body: bool) -> None:
        path = request.path.partition("?")[0]
        self.asked.append(f"{request.command} {path}")
        about = f"/api/models/{REPOSITORY}"
        if path in (about, f"{about}/revision/main", f"{about}/revision/{COMMIT}"):
            files = [{"rfilename": name, "size": file.stat().st_size} for name, file in self._files().items()]
            self._send_json(request, {"id": REPOSITORY, "sha": COMMIT, "siblings": files, "tags": []}, body)
        elif path == f"/api/models/{REPOSITORY}/tree/{COMMIT}":
            files = [
                {"type": "file", "oid": self._tag(file), "size": file.stat().st_size, "path": name}
                for name, file in self._files().items()
            ]
            self._send_json(request, files, body)
        elif (file := self._file_of(path)) is not None:
            self._send_file(request, file, body)
        else:
            request.send_response(404)
            request.send_header("Content-Length", "0")
            request.end_headers()

    def _file_of(self, path: str) -> Path | None:
        for revision in (COMMIT, "main"):
            opening = f"/{REPOSITORY}/resolve/{revision}/"
            if path.startswith(opening):
                return self._files().get(path[len(opening) :])
        return None

    def _files(self) -> dict[str, Path]:
        files = (file for file in sorted(self.folder.rglob("*")) if file.is_file())
        return {file.relative_to(self.folder).as_posix(): file for file in files}

    @staticmethod
    def _tag(file: Path) -> str:
        return hashlib.sha1(file.read_bytes()).hexdigest()

    @staticmethod
    def _send_json(request: BaseHTTPRequestHandler, value: object, body: bool) -> None:
        data = json.dumps(value).encode()
        request.send_response(200)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        if body:
            request.wfile.write(data)

    def _send_file(self, request: BaseHTTPRequestHandler, file: Path, body: bool) -> None:
        data, start = file.read_bytes(), 0
        if asked := request.headers.get("Range"):
            start = int(asked.removeprefix("bytes=").split("-")[0])
        request.send_response(206 if asked else 200)
        request.send_header("ETag", f'"{self._tag(file)}"')
        request.send_header("X-Repo-Commit", COMMIT)
        request.send_header("Content-Length", str(len(data) - start))
        if asked:
            request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        request.end_headers()
        if body and self.cut:
            request.wfile.write(data[start : (start + len(data)) // 2])
            request.close_connection = True
        elif body:
            request.wfile.write(data[start:])


@contextmanager
def small_hub(folder: Path) -> Iterator[SmallHub]:
    hub = SmallHub(folder)
    thread = Thread(target=hub.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        hub.server.shutdown()
        thread.join()
        hub.server.server_close()
