"""`python -m diffedit_backend.worker`: started by the server, never by hand."""

from __future__ import annotations

import logging
import os
import signal
import sys

from .loop import work
from .pipe import claim_standard_streams


def main() -> int:
    # Ctrl-C and a service manager's SIGTERM reach the whole group; the server ends its workers after their jobs.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pipe = claim_standard_streams()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)

    from .edit_runner import EditRunner  # imports torch: after the streams are claimed

    return work(pipe, EditRunner.from_configuration)


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # everything was said and nothing is left to save: torch would take seconds to tidy up
