"""Walks through the installation as a new user does and writes docs/walk-through.md from what every step printed.

    make wheel && python3 docs/make_walk_through.py dist/krita_diffedit-*.whl

Everything happens in an empty folder with a HOME, an environment and a Krita profile of its own. Nothing of the
checkout is on the path but a copy of what drives Krita, for that one step. The first edit runs in a network namespace
without any network (Linux, as root or with user namespaces). Any step with another exit code than 0 ends the walk, and
the page stays as it was.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

OUT = Path(__file__).parent / "walk-through.md"
DRIVER = Path(__file__).parents[1] / "backend" / "diffedit_krita_driver"  # of development; the product has none
TORCH = "torch==2.13.0"  # as .ci/setup installs it
PORT = 7861
HEAD = """# Walk-through: from an empty machine to an edit in Krita

Made by `docs/make_walk_through.py`, which ran every command below in an empty folder with a home folder and an
environment of its own. What stands under a command is what it printed; folders and the key are replaced,
pip's warnings and long outputs cut.
"""
# Runs in the installed environment, not in the checkout: a real Krita on a virtual screen, as install-plugin left it.
KRITA = '''
import sys
from pathlib import Path
from diffedit_krita_driver import demo
from diffedit_krita_driver.display import Xvfb
from diffedit_krita_driver.profile import Profile
from diffedit_krita_driver.remote import FIRST_START_SECONDS, RemoteKrita


class Kept(Profile):
    """Keeps what install-plugin wrote into kritarc."""

    def create(self, plugins, *screen, **canvas):
        kritarc = self.root / "config" / "kritarc"
        own = [line for line in kritarc.read_text().splitlines() if line.startswith("enable_")]
        super().create(plugins, *screen, **canvas)
        kritarc.write_text(kritarc.read_text().replace("[python]", "\\n".join(["[python]", *own])))


root, out = Path(sys.argv[1]), Path(sys.argv[2])
out.mkdir()
with Xvfb() as display, RemoteKrita(Kept(root), display, start_seconds=FIRST_START_SECONDS) as krita:
    sample = demo.demo_sample()
    demo.prepare(krita, sample)
    shown = demo.perform(krita, sample, out)
    print(f"new layer: {shown.layer}; the mask covers {shown.share:.1%} of the picture")
    krita.quit()
'''


class Walk:
    """The steps so far, each with its output."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lines = [HEAD]
        self.environment = {
            "PATH": f"{root}/env/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(root / "home"),
            "XDG_DATA_HOME": str(root / "data"),
            "XDG_CONFIG_HOME": str(root / "config"),
            "DIFFEDIT_HOME": str(root / "diffedit"),
            "LANG": "C.UTF-8",
            "OMP_NUM_THREADS": "1",
            "PIP_NO_COLOR": "1",
            **{name: value for name, value in os.environ.items() if name.startswith("PIP_")},
        }
        for folder in ("home", "data/krita", "config", "diffedit", "work"):
            (root / folder).mkdir(parents=True)
        (root / "diffedit").chmod(0o700)

    def say(self, text: str) -> None:
        self.lines.append(f"{text}\n")

    def step(self, command: str, really: str | None = None, tail: int | None = None) -> str:
        """Runs `really` (default: `command`), notes `command` and the last `tail` lines; returns all of them."""
        print(f"$ {command}", flush=True)
        answer = subprocess.run(
            ["bash", "-o", "pipefail", "-c", really or command],
            cwd=self.root / "work",
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
        )
        print(answer.stdout, flush=True)
        if answer.returncode:
            sys.exit(f"exit code {answer.returncode}: {command}")
        shown = answer.stdout.strip().splitlines()[-tail:] if tail else answer.stdout.strip().splitlines()
        self.note(command, "\n".join(shown))
        return answer.stdout

    def note(self, command: str, output: str) -> None:
        self.lines.append(f"```console\n$ {command}\n{self.neutral(output)}\n```\n".replace("\n\n```", "\n```"))

    def neutral(self, text: str) -> str:
        text = text.replace(str(self.root / "home"), "$HOME").replace(str(self.root), "$HOME")
        text = re.sub(r"(diffedit://[^/\s]+/)\S+", r"\1…", text)
        return re.sub(r"^(WARNING|\[notice\]).*\n?", "", text, flags=re.M)


def main() -> None:
    wheel = Path(sys.argv[1]).resolve()
    root = Path(tempfile.mkdtemp(prefix="walk-"))
    try:
        walk(Walk(root), wheel)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def walk(w: Walk, wheel: Path) -> None:
    shutil.copy(wheel, w.root / "work")
    w.say("## The client and the command line: no torch")
    w.step("python3 -m venv $HOME/env", f"{sys.executable} -m venv {w.root}/env")
    w.say("The wheel is the one that `make wheel` puts into `dist/`.")
    w.step(f"pip install ./{wheel.name}", tail=1)
    w.step("diffedit --version")
    w.step("diffedit --help", tail=32)
    w.say("## With the engine")
    w.say(
        "The CPU build of torch first, from where [pytorch.org](https://pytorch.org/get-started/locally/) has it; "
        "whoever has an NVIDIA GPU leaves this line out."
    )
    w.step(f"pip install {TORCH}", tail=1)
    w.step(f"pip install './{wheel.name}[backend]'", tail=1)
    w.step("diffedit models")
    w.say("## An edit without any network")
    w.step("diffedit samples pictures")
    words = '--source "a horse on grass" --target "a zebra on grass"'
    isolate = "unshare -n" if os.geteuid() == 0 else "unshare -rn"
    first = f"diffedit edit pictures/horse.png zebra.png {words} --mask-out mask.png"
    w.step(f"unshare -n {first}", f"{isolate} {first}")
    w.say("## A backend, and an edit through it")
    serve = ["diffedit", "serve", "--listen", f"tcp://127.0.0.1:{PORT}", "--device", "cpu"]
    with subprocess.Popen(
        [str(w.root / "env/bin/diffedit"), *serve[1:]],
        env=w.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as backend:
        try:
            assert backend.stdout is not None
            told = ""
            while not told.rpartition("\n")[2].startswith("ready "):
                line = backend.stdout.readline()
                if not line:
                    sys.exit(f"diffedit serve ended:\n{told}")
                told = f"{told}\n{line.rstrip()}".strip()
            w.note(" ".join(serve) + " &", told)
            line = w.step(f"diffedit invite anna --host 127.0.0.1:{PORT}")
            link = next(part for part in line.splitlines() if part.startswith("diffedit://"))
            w.step("(umask 077; cat > anna.line)", f"(umask 077; echo '{link}' > anna.line)")
            w.step(f"diffedit edit pictures/horse.png over-the-link.png {words} --connect anna.line")
            w.say("## The plugin, in a real Krita")
            w.step("diffedit install-plugin")
            w.say(
                "Krita started, a sample opened, the words written, *Edit* chosen from the menu, all by what drives "
                "Krita in this project's tests:"
            )
            script = w.root / "krita.py"
            script.write_text(KRITA)
            shutil.copytree(DRIVER, w.root / "development" / DRIVER.name)
            w.step("krita", f"PYTHONPATH={w.root}/development python {script} {w.root} {w.root}/shown")
        finally:
            backend.send_signal(signal.SIGTERM)
            backend.wait(60)
    w.say("## Away with it")
    w.step("diffedit uninstall-plugin")
    w.step(
        "find $HOME -name '*diffedit*' -path '*krita*'",
        f"find {w.root}/data/krita -name 'diffedit' -o -name 'diffedit.*'",
    )
    w.step("pip uninstall --yes krita-diffedit", tail=1)
    w.step(
        "find $HOME/env -name '*diffedit*' -not -path '*/diffusers/*'",
        f"find {w.root}/env -name '*diffedit*' -not -path '*/diffusers/*'",
    )
    OUT.write_text("\n".join(w.lines), encoding="utf-8")
    print(OUT)


if __name__ == "__main__":
    main()
