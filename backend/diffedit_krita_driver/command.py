"""diffedit demo: an edit in a real Krita, with everything started and stopped by itself."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import tempfile
import time
from pathlib import Path

HELP = "open a real Krita with the plugin, the bundled model and a sample picture"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, default=Path("demo-output"), help="folder for the pictures (default: demo-output)"
    )
    parser.add_argument(
        "--headless", action="store_true", help="on a virtual screen even if there is one; edits by itself and ends"
    )


def run(args: argparse.Namespace) -> int:
    from diffedit_backend.krita.install import PLUGIN

    from .backend_process import BackendProcess
    from .demo import demo_sample, perform, prepare
    from .display import Xvfb, has_screen
    from .remote import RemoteKrita, fresh_profile

    begun = time.monotonic()
    by_hand = has_screen() and not args.headless
    # A plain kill ends it as Ctrl-C does: through the `with` blocks, which leave nothing running.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.ExitStack() as running:
        root = Path(tempfile.mkdtemp(prefix="diffedit-demo-"))
        running.callback(shutil.rmtree, root, ignore_errors=True)
        # The first start of Krita in a profile builds its resource database; a virtual screen is enough for that.
        with Xvfb() as hidden:
            _print_step("Preparing a Krita profile of its own")
            profile = fresh_profile(root, hidden)
            profile.create([])
        _print_step("Starting the backend with the bundled model")
        running.enter_context(BackendProcess(profile.diffedit_home))
        display = None if by_hand else running.enter_context(Xvfb())
        _print_step("Starting Krita")
        krita = running.enter_context(RemoteKrita(profile, display, plugins=[(None, PLUGIN)]))
        sample = demo_sample()
        prepare(krita, sample)
        if by_hand:
            _print_step(
                f"Krita is yours: Tools > DiffEdit > Edit Layer turns '{sample.source}' into '{sample.target}'."
            )
            krita.process.wait()
            print("Krita was closed; the backend is stopped.")
            return 0
        _print_step(f"Editing: '{sample.source}' → '{sample.target}'")
        args.out.mkdir(parents=True, exist_ok=True)
        shown = perform(krita, sample, args.out.resolve())  # Krita's working folder is its profile
        krita.quit()
    print(
        f"Made {args.out}/: demo.kra, source.png, mask.png, edit.png, screenshot.png: layer '{shown.layer}', "
        f"mask {shown.share:.0%} of the picture, edit {shown.seconds:.0f} s, all {time.monotonic() - begun:.0f} s."
    )
    return 0


def _print_step(what: str) -> None:
    print(f"==> {what}", flush=True)
