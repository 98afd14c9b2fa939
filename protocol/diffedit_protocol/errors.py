"""What can go wrong, with a code for programs and a sentence for the artist.

* DiffEditError
  + VersionError        VERSION       the two sides share no protocol version
  + AuthError           AUTH          key unknown or revoked, or another server behind the address
  + SchemaError         SCHEMA        a message or a value that the protocol does not allow
  + TooLargeError       TOO_LARGE     beyond a limit that hello told
  + BusyError           BUSY          queue or quota full; `retry_after` seconds
  + NoBlobError         NO_BLOB       the server does not hold the blob
  + UnknownJobError     UNKNOWN_JOB   no such job for this key
  + OutOfMemoryError    OOM           the device's memory was too small
  + WorkerDiedError     WORKER_DIED   the process that held the model ended; it is restarted
  + ModelError          MODEL         the model cannot be found, loaded or used
  + CancelledError      CANCELLED     the client cancelled the job
  + NothingFoundError   NOTHING_FOUND no region differs between the two texts
  + BadInputError       BAD_INPUT     a picture, prompt or setting that cannot be worked with
  + LinkError           LINK          no answer from the backend (client side only)
  + InternalError       INTERNAL      a fault of ours
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar


class DiffEditError(Exception):
    """Base of every error that an artist may see.

    `sentence` names the thing, then the way out. `detail` is for the log and a tooltip. `retryable`: the same request
    may succeed later.
    """

    code: ClassVar[str] = "INTERNAL"
    default_retryable: ClassVar[bool] = False

    def __init__(
        self, sentence: str, *, detail: str = "", retryable: bool | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.detail = detail
        self.retryable = self.default_retryable if retryable is None else retryable
        self.retry_after = retry_after

    def to_wire(self) -> dict[str, Any]:
        """The map that an error message carries: code, sentence, detail, retryable, retry_after (seconds or None)."""
        return {
            "code": self.code,
            "sentence": self.sentence,
            "detail": self.detail,
            "retryable": self.retryable,
            "retry_after": self.retry_after,
        }


class VersionError(DiffEditError):
    code = "VERSION"


class AuthError(DiffEditError):
    code = "AUTH"


class SchemaError(DiffEditError):
    code = "SCHEMA"


class TooLargeError(DiffEditError):
    code = "TOO_LARGE"


class BusyError(DiffEditError):
    code = "BUSY"
    default_retryable = True


class NoBlobError(DiffEditError):
    code = "NO_BLOB"
    default_retryable = True


class UnknownJobError(DiffEditError):
    code = "UNKNOWN_JOB"


class OutOfMemoryError(DiffEditError):
    code = "OOM"


class WorkerDiedError(DiffEditError):
    code = "WORKER_DIED"
    default_retryable = True


class ModelError(DiffEditError):
    code = "MODEL"


class CancelledError(DiffEditError):
    code = "CANCELLED"


class NothingFoundError(DiffEditError):
    code = "NOTHING_FOUND"


class BadInputError(DiffEditError):
    code = "BAD_INPUT"


class LinkError(DiffEditError):
    code = "LINK"
    default_retryable = True


class InternalError(DiffEditError):
    code = "INTERNAL"


BY_CODE: dict[str, type[DiffEditError]] = {
    cls.code: cls
    for cls in (
        VersionError,
        AuthError,
        SchemaError,
        TooLargeError,
        BusyError,
        NoBlobError,
        UnknownJobError,
        OutOfMemoryError,
        WorkerDiedError,
        ModelError,
        CancelledError,
        NothingFoundError,
        BadInputError,
        LinkError,
        InternalError,
    )
}


def error_from_wire(fields: dict[str, Any]) -> DiffEditError:
    """The error that `to_wire` described; an unknown code becomes an InternalError that keeps its sentence."""
    cls = BY_CODE.get(str(fields.get("code", "")), InternalError)
    retry_after = fields.get("retry_after")
    return cls(
        str(fields.get("sentence", "The backend reported an error without a text.")),
        detail=str(fields.get("detail", "")),
        retryable=bool(fields.get("retryable", False)),
        retry_after=float(retry_after) if isinstance(retry_after, (int, float)) else None,
    )


MAX_ERROR_CHARACTERS = 2000  # of a sentence, and of a detail, on the wire


def bounded_error(error: DiffEditError) -> dict[str, Any]:
    """`to_wire()` with its texts cut to what every message has room for."""
    fields = error.to_wire()
    for name in ("sentence", "detail"):
        text = str(fields[name])
        fields[name] = text if len(text) <= MAX_ERROR_CHARACTERS else text[: MAX_ERROR_CHARACTERS - 1] + "…"
    return fields


MOST_NAMES = 12  # of a list in a sentence


def name_list(names: Iterable[str]) -> str:
    """Names for a sentence: the first few, and how many more there are."""
    every = list(names)
    shown = ", ".join(every[:MOST_NAMES])
    return shown if len(every) <= MOST_NAMES else f"{shown} and {len(every) - MOST_NAMES:,} more"
