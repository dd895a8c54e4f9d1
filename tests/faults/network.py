"""A bad network: another network namespace, and a wire to it that delays or loses packets, or is cut.

    python -m tests.faults.network NAMESPACE NEAR_ADDRESS FAR_ADDRESS      (as root)

The wire is a process between two TUN devices, one on each side, so TCP is the kernel's own. It obeys lines on its
standard input: `delay MILLISECONDS JITTER_MILLISECONDS LOSS_PERCENT`, `cut`, `heal`.
"""

import asyncio
import fcntl
import itertools
import os
import random
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import needs
from tests.processes import end_talking, talking_process, wait_until

_TUNSETIFF = 0x400454CA
_IFF_TUN_NO_PI = 0x1001
_PACKET_BYTES = 65_536

_numbers = itertools.count(os.getpid() % 200)


@dataclass
class Wire:
    """The other side, and the wire to it.

    Attributes:
        prefix: goes before a command to run it on the other side.
        near: the address of this side that the other side can reach.
    """

    prefix: list[str]
    near: str
    _process: subprocess.Popen[str]

    def delay(self, milliseconds: int, jitter_milliseconds: int, loss_percent: float) -> None:
        """Delay each packet by a random time in each direction, and lose some of them."""
        self._say(f"delay {milliseconds} {jitter_milliseconds} {loss_percent}")

    def cut(self) -> None:
        """Lose every packet, without a sign to either side."""
        self._say("cut")

    def heal(self) -> None:
        """Let every packet through again, without delay."""
        self._say("heal")

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n"


@contextmanager
def other_side() -> Iterator[Wire]:
    """Another network namespace on this machine, with a wire to it."""
    needs.unless(_can_make_namespaces(), "root, iproute2, network namespaces and TUN devices")
    number = next(_numbers) % 250
    namespace, near, far = f"zerorpc-{os.getpid()}-{number}", f"10.219.{number}.1", f"10.219.{number}.2"
    _ip("netns", "add", namespace)
    process = talking_process("tests.faults.network", namespace, near, far)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "done\n", "the wire is up"
        yield Wire(["ip", "netns", "exec", namespace], near, process)
    finally:
        end_talking(process)
        wait_until(lambda: not _pids_in(namespace), 10, "no process is left on the other side")
        _ip("netns", "delete", namespace)


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


def _can_make_namespaces() -> bool:
    name = f"zerorpc-{os.getpid()}-try"
    try:
        _ip("netns", "add", name)
        _ip("netns", "delete", name)
    except (OSError, subprocess.CalledProcessError):
        return False
    return Path("/dev/net/tun").exists()


def _pids_in(namespace: str) -> str:
    return _ip("netns", "pids", namespace)


# -- the process that is the wire -----------------------------------------------------------------------------------


def _tun(name: str) -> int:
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN_NO_PI))
    return device


class _Relay:
    def __init__(self, near: int, far: int) -> None:
        self._delay_s = self._jitter_s = self._loss = 0.0
        self._is_cut = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(near, self._read, near, far)
        self._loop.add_reader(far, self._read, far, near)

    def _read(self, source: int, destination: int) -> None:
        packet = os.read(source, _PACKET_BYTES)
        if self._is_cut or random.random() < self._loss:
            return
        after_s = max(0.0, self._delay_s + random.uniform(-self._jitter_s, self._jitter_s))
        if after_s:
            self._loop.call_later(after_s, self._write, destination, packet)
        else:
            self._write(destination, packet)

    def _write(self, destination: int, packet: bytes) -> None:
        if not self._is_cut:
            os.write(destination, packet)

    def obey(self, line: str) -> None:
        command, *numbers = line.split()
        if command == "delay":
            delay_ms, jitter_ms, loss_percent = map(float, numbers)
            self._delay_s, self._jitter_s, self._loss = delay_ms / 1000, jitter_ms / 1000, loss_percent / 100
        self._is_cut = command == "cut"


async def _serve(near_device: int, far_device: int) -> None:
    relay = _Relay(near_device, far_device)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    print("done", flush=True)  # noqa: T201
    while line := await lines.readline():
        relay.obey(line.decode())
        print("done", flush=True)  # noqa: T201


def main(namespace: str, near: str, far: str) -> None:
    number = near.split(".")[2]
    near_name, far_name = f"near{number}", f"far{number}"
    near_device, far_device = _tun(near_name), _tun(far_name)
    _ip("addr", "add", near, "peer", far, "dev", near_name)
    _ip("link", "set", near_name, "up")
    _ip("link", "set", far_name, "netns", namespace)
    _ip("-n", namespace, "addr", "add", far, "peer", near, "dev", far_name)
    _ip("-n", namespace, "link", "set", far_name, "up")
    _ip("-n", namespace, "link", "set", "lo", "up")
    asyncio.run(_serve(near_device, far_device))


if __name__ == "__main__":
    main(*sys.argv[1:])
