"""A slow, lossy cable between two network devices: the rate, delay and loss of `tc netem`, made in user space.

Kernels often come without netem, nearly all of them with TUN devices: this process holds both ends of the cable and
carries each IP packet across when its time has come. A line on standard input controls it: `cut`, `mend`.

    python slow_cable.py NEAR FAR --megabits 20 --delay-ms 80 --loss 0.01
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import heapq
import os
import random
import select
import struct
import sys
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000  # linux/if_tun.h
LARGEST_PACKET = 65_536
QUEUE_SECONDS = 0.25  # of packets that wait for the wire, beyond which they are dropped, as a router does


def open_device(name: str) -> int:
    handle = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(handle, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    return handle


class Direction:
    """Packets on their way from one end to the other."""

    def __init__(self, bytes_per_second: float, delay: float, loss: float, seed: int) -> None:
        self._rate = bytes_per_second
        self._delay = delay
        self._loss = loss
        self._chance = random.Random(seed)
        self._wire_free = 0.0
        self._under_way: list[tuple[float, int, bytes]] = []
        self._count = 0

    def take(self, packet: bytes, now: float) -> None:
        if self._chance.random() < self._loss or self._wire_free - now > QUEUE_SECONDS:
            return
        self._wire_free = max(self._wire_free, now) + len(packet) / self._rate
        self._count += 1
        heapq.heappush(self._under_way, (self._wire_free + self._delay, self._count, packet))

    def arrived(self, now: float) -> list[bytes]:
        packets = []
        while self._under_way and self._under_way[0][0] <= now:
            packets.append(heapq.heappop(self._under_way)[2])
        return packets

    def next_due(self) -> float:
        return self._under_way[0][0] if self._under_way else float("inf")


def deliver(end: int, packet: bytes) -> None:
    """A packet for a device that is not up yet is lost, as at the socket of a host that is switched off."""
    try:
        os.write(end, packet)
    except OSError as error:
        if error.errno != errno.EIO:
            raise


def carry(near: int, far: int, make: list[Direction]) -> None:
    """Until standard input ends."""
    ways = {near: (far, make[0]), far: (near, make[1])}
    is_cut = False
    while True:
        wait = min(direction.next_due() for _, direction in ways.values()) - time.monotonic()
        ready, _, _ = select.select([near, far, sys.stdin], [], [], max(0.0, min(wait, 1.0)))
        if sys.stdin in ready:
            order = sys.stdin.readline().strip()
            if not order:
                return
            is_cut = order == "cut"
        now = time.monotonic()
        for end, (other, direction) in ways.items():
            if end in ready:
                packet = os.read(end, LARGEST_PACKET)
                if not is_cut:
                    direction.take(packet, now)
            for packet in direction.arrived(now):
                if not is_cut:
                    deliver(other, packet)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("near")
    parser.add_argument("far")
    parser.add_argument("--megabits", type=float, required=True)
    parser.add_argument("--delay-ms", type=float, required=True, help="there and back")
    parser.add_argument("--loss", type=float, required=True, help="share of the packets, in each direction")
    args = parser.parse_args()
    rate, delay = args.megabits * 1e6 / 8, args.delay_ms / 2000
    near, far = open_device(args.near), open_device(args.far)
    print("ready", flush=True)
    carry(near, far, [Direction(rate, delay, args.loss, seed) for seed in (1, 2)])


if __name__ == "__main__":
    main()
