"""Two hosts on one machine: a second network namespace at the other end of a slow cable.

Everything is taken down again; nothing of the machine's own network is touched. Linux, and root or CAP_NET_ADMIN.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType

# A private network that nothing else on a test machine uses, another one in each process that runs tests.
_NETWORK = f"10.{200 + os.getpid() // 256 % 50}.{os.getpid() % 256}"
HERE, THERE = f"{_NETWORK}.1", f"{_NETWORK}.2"
SLOW_CABLE = Path(__file__).with_name("slow_cable.py")


def missing() -> str:
    """Why two hosts cannot be made here; "" when they can."""
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "/dev/net/tun is not there or not ours to open"
    name = f"de-probe-{os.getpid()}"
    try:
        made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "the command `ip` is not installed (Debian: iproute2)"
    if made.returncode != 0:
        return f"network namespaces cannot be made: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], check=True)
    return ""


class TwoHosts:
    """`with TwoHosts(...) as hosts`: what is started as `hosts.there(...)` runs on the other host, which is THERE.

    `megabits` per second; `delay_ms` there and back; `loss`: share of the packets that vanish in each direction.
    """

    def __init__(self, *, megabits: float, delay_ms: float, loss: float) -> None:
        self._name = f"de-host-{os.getpid()}"
        self._near, self._far = f"de{os.getpid()}a", f"de{os.getpid()}b"
        shape = ("--megabits", str(megabits), "--delay-ms", str(delay_ms), "--loss", str(loss))
        self._command = (sys.executable, str(SLOW_CABLE), self._near, self._far, *shape)

    def __enter__(self) -> TwoHosts:
        self._cable = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._cable.stdout is not None
        try:
            if self._cable.stdout.readline() != "ready\n":
                raise RuntimeError("The cable could not be made.")
            _run("ip", "netns", "add", self._name)
            _run("ip", "link", "set", self._far, "netns", self._name)
            _run("ip", "addr", "add", HERE, "peer", THERE, "dev", self._near)
            _run("ip", "link", "set", self._near, "up")
            _run(*self.there("ip", "addr", "add", THERE, "peer", HERE, "dev", self._far))
            _run(*self.there("ip", "link", "set", self._far, "up"))
            _run(*self.there("ip", "link", "set", "lo", "up"))
        except BaseException:
            self._take_down()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._take_down()

    def there(self, *command: str) -> tuple[str, ...]:
        """The command that runs `command` on the other host."""
        return ("ip", "netns", "exec", self._name, *command)

    @property
    def carried(self) -> tuple[int, int]:
        """Bytes that went there and came back so far, with all that was sent again."""
        counts = Path("/sys/class/net", self._near, "statistics")
        return int((counts / "tx_bytes").read_text()), int((counts / "rx_bytes").read_text())

    def cut(self) -> None:
        """Pull the cable: packets vanish without a word, as they do when a wireless link is lost."""
        self._order("cut")

    def mend(self) -> None:
        self._order("mend")

    def _order(self, order: str) -> None:
        assert self._cable.stdin is not None
        self._cable.stdin.write(f"{order}\n")
        self._cable.stdin.flush()

    def _take_down(self) -> None:
        self._cable.communicate()  # its devices go with it
        subprocess.run(["ip", "netns", "del", self._name], capture_output=True, check=False)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
