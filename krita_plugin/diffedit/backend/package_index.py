"""A Python package index, as far as the installer needs one: the address and the hash of a wheel, and its download.

Standard library only. The index speaks the simple repository API, as JSON (PEP 691) or as HTML (PEP 503). Proxies are
taken from HTTP_PROXY and HTTPS_PROXY, as urllib does.
"""

from __future__ import annotations

import hashlib
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

PUBLIC_INDEX = "https://pypi.org/simple"
TIMEOUT_SECONDS = 30.0
_CHUNK = 1 << 18
_ACCEPTED = "application/vnd.pypi.simple.v1+json, text/html;q=0.2"


class IndexUnreachableError(Exception):
    """The index did not answer, or not with what was asked for; the text says how."""


class WrongHashError(Exception):
    """A file is not the one that was published: its sha256 differs."""


@dataclass(frozen=True)
class IndexFile:
    """A file of an index: its name, its absolute address, and its sha256 in hexadecimal, "" where none is told."""

    name: str
    url: str
    sha256: str


def files_of(project: str, index_url: str) -> tuple[IndexFile, ...]:
    """The files that the index has of `project`, none where it does not know it. Raises IndexUnreachableError."""
    page = f"{index_url.rstrip('/')}/{project}/"
    request = urllib.request.Request(page, headers={"Accept": _ACCEPTED})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            body, kind, page = answer.read(), answer.headers.get_content_type(), answer.geturl()
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return ()
        raise IndexUnreachableError(f"{page}: {_reason(error)}") from error
    except (OSError, ValueError) as error:
        raise IndexUnreachableError(f"{page}: {_reason(error)}") from error
    try:
        if kind.endswith("json"):
            return tuple(
                IndexFile(
                    file["filename"], urllib.parse.urljoin(page, file["url"]), file.get("hashes", {}).get("sha256", "")
                )
                for file in json.loads(body)["files"]
            )
        return _Links(page).read(body.decode("utf-8"))
    except (ValueError, KeyError, TypeError) as error:
        raise IndexUnreachableError(f"{page}: not the page of a package index ({error})") from error


def download(
    file: IndexFile, destination: Path, sha256: str, progress: Callable[[int, int], None], cancelled: Callable[[], bool]
) -> bool:
    """Fetch `file` to `destination` and check it against `sha256`; an unfinished download goes on where it stopped.

    `progress(received, total)` in bytes; total 0 where it is not told. False when `cancelled()` became true: what was
    received stays beside the destination for the next call. Raises IndexUnreachableError, WrongHashError (the file is
    deleted), and OSError of the disk.
    """
    partial = destination.with_name(destination.name + ".part")
    received = partial.stat().st_size if partial.is_file() else 0
    headers = {"Range": f"bytes={received}-"} if received else {}
    try:
        answer = urllib.request.urlopen(urllib.request.Request(file.url, headers=headers), timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # 416: nothing is missing
            raise IndexUnreachableError(f"{file.url}: {_reason(error)}") from error
        answer = None
    except (OSError, ValueError) as error:
        raise IndexUnreachableError(f"{file.url}: {_reason(error)}") from error
    if answer is not None:
        with answer:
            if answer.status != 206:  # a server that does not know ranges sends it all again
                received = 0
            length = int(answer.headers.get("Content-Length") or 0)
            total = received + length if length else 0
            with partial.open("ab" if received else "wb") as output:
                while True:
                    if cancelled():
                        return False
                    try:
                        chunk = answer.read(_CHUNK)
                    except OSError as error:
                        raise IndexUnreachableError(f"{file.url}: {_reason(error)}") from error
                    if not chunk:
                        break
                    output.write(chunk)
                    received += len(chunk)
                    progress(received, total)
        if total and received < total:
            raise IndexUnreachableError(f"{file.url}: the connection ended after {received:,} of {total:,} bytes")
    found = _sha256_of(partial)
    if found != sha256:
        partial.unlink()
        raise WrongHashError(f"{file.name}: sha256 {found}, expected {sha256}")
    partial.replace(destination)
    return True


def _sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    return str(error) or type(error).__name__


class _Links(HTMLParser):
    """The links of a page of PEP 503."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self._page = page
        self._found: list[IndexFile] = []

    def read(self, text: str) -> tuple[IndexFile, ...]:
        self.feed(text)
        return tuple(self._found)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        href = dict(attrs).get("href")
        if tag == "a" and href:
            url, _, fragment = urllib.parse.urljoin(self._page, href).partition("#")
            name = urllib.parse.unquote(url.rstrip("/").rpartition("/")[2])
            sha256 = fragment.removeprefix("sha256=") if fragment.startswith("sha256=") else ""
            self._found.append(IndexFile(name, url, sha256))
