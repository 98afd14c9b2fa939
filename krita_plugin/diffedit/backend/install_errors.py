"""What goes wrong while the backend is installed, in sentences for the artist that say what to do."""

from __future__ import annotations

import errno
import re
from pathlib import Path

from ..translation import tr
from .accelerators import GIB

_DISK_FULL = re.compile(r"No space left on device|os error 28|os error 112|not enough space|Disk quota exceeded", re.I)
_WRONG_HASH = re.compile(r"hash mismatch|DO NOT MATCH THE HASHES|Invalid hash", re.I)
_PROXY = re.compile(r"\b407\b|proxy (?:authentication|error|connect)|tunnel(?:ing)? (?:error|failed)|ProxyError", re.I)
_CERTIFICATE = re.compile(r"certificate verify failed|UnknownIssuer|invalid peer certificate|CERTIFICATE_VERIFY", re.I)
_LOCKED = re.compile(
    r"os error 32\b|WinError 32|being used by another process|os error 5\b|WinError 5\b|Access is denied", re.I
)
_READ_ONLY = re.compile(r"Read-only file system|os error 30|Permission denied|os error 13", re.I)
_NETWORK = re.compile(
    r"dns error|Name or service not known|name resolution|getaddrinfo|Connection refused|Connection reset|unreachable|"
    r"timed out|error sending request|failed to fetch|Max retries|connection (?:ended|closed|error)|HTTP 5\d\d|"
    r"RemoteDisconnected|IncompleteRead",
    re.I,
)
# A file that broke off: uv says of it that it is no package, and then that there is no solution.
_BROKEN_OFF = re.compile(
    r"invalid package format|read from zip file|unexpected end of file|end of file before|decoding response body", re.I
)
_PYTHONS = "python-build-standalone"  # where uv fetches a Python from, unless UV_PYTHON_INSTALL_MIRROR says otherwise
_NO_PYTHON = re.compile(r"No interpreter found|python-downloads", re.I)
_LACKS = re.compile(
    r"No solution found|No matching distribution|was not found in the package registry|HTTP 404|"
    r"not the page of a package index",
    re.I,
)


def sentence_for(output: str, folder: Path, index: str) -> str:
    """What an installer's output means for the artist."""
    if _DISK_FULL.search(output):
        return tr(
            "The disk is full. Free some space on the disk of '{folder}', then try again; the installation "
            "continues where it stopped.",
            folder=folder,
        )
    if _WRONG_HASH.search(output):
        return tr(
            "A downloaded file differs from the published one and was deleted. Try again; if this happens "
            "again, check the mirror in Settings."
        )
    if _PROXY.search(output):
        return tr(
            "The proxy refused the connection. Check HTTP_PROXY and HTTPS_PROXY, with name and "
            "password where it asks for them."
        )
    if _CERTIFICATE.search(output):
        return tr(
            "The certificate of '{index}' is not trusted here. Check the machine's clock, or the mirror in Settings.",
            index=without_password(index),
        )
    if _LOCKED.search(output):
        return tr(
            "Another program, often a virus scanner, holds a file in '{folder}'. Wait a minute "
            "and try again, or exclude the folder from scanning.",
            folder=folder,
        )
    if _READ_ONLY.search(output):
        return tr("'{folder}' cannot be written. Choose another folder.", folder=folder)
    if _NO_PYTHON.search(output) or (_PYTHONS in output and _NETWORK.search(output)):
        return tr(
            "There is no Python 3.10 to 3.13 on this machine, and none could be fetched from github.com. Check the "
            "network, or install Python from python.org, then try again."
        )
    if _BROKEN_OFF.search(output):
        return _unreachable(index)
    if _LACKS.search(output):
        return tr(
            "'{index}' does not have a package that is needed. Check the mirror in Settings; the"
            " log names the package.",
            index=without_password(index),
        )
    if _NETWORK.search(output):
        return _unreachable(index)
    last = next((line.strip() for line in reversed(output.splitlines()) if line.strip()), "")
    return tr("The installation failed: {last} The log has the details.", last=last[:200])


def _unreachable(index: str) -> str:
    return tr(
        "'{index}' cannot be reached. Check the network, then try again; the installation continues where it stopped.",
        index=without_password(index),
    )


def sentence_for_os_error(error: OSError, folder: Path) -> str:
    """What an error of the file system means for the artist."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT) or getattr(error, "winerror", 0) == 112:
        return sentence_for("No space left on device", folder, "")
    if getattr(error, "winerror", 0) in (5, 32):
        return sentence_for("WinError 32", folder, "")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
        return sentence_for("Permission denied", folder, "")
    return tr("The installation failed: {last} The log has the details.", last=str(error)[:200])


def gigabytes(count: int) -> str:
    """ "1.6 GB", of 2^30 bytes."""
    return f"{count / GIB:.1f} GB"


def megabytes(count: int) -> str:
    """ "172 MB", of 2^20 bytes."""
    return f"{count / (1 << 20):,.0f} MB"


def without_password(text: str) -> str:
    """The text with the name and password of every address in it taken out."""
    return re.sub(r"(\w+://)[^/@\s]+@", r"\1…@", text)
