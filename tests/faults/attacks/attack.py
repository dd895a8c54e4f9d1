"""Runs an attack beside an honest client, and measures what it costs: the client's worst call, the broker's memory.

With `ATTACKED=path`, the broker and its workers run from another checkout of the project, so that the same attack can
be measured before and after a change.
"""

import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import zmq

from tests.figures import Figure
from tests.integration.keyed import Keyed, keyed_cluster
from tests.processes import REPOSITORY, Cluster, cluster, end_talking, talking_process, wait_until

LONGEST_CALL_S = 0.5
"""An honest client's worst call beside an attack, unless the row of the attack allows more, in seconds."""

ATTACKED = Path(os.environ.get("ATTACKED") or REPOSITORY)
"""The checkout whose broker is attacked."""

_MIB = 1 << 20
_SAMPLE_S = 0.01


class Attack:
    """A cluster under attack, and an honest client beside it.

    Attributes:
        cluster: the cluster.
        calls: calls of the honest client that succeeded; set when the attack is over, as are the following.
        failures: its calls that failed, by the name of the error.
        longest_s: its longest call, in seconds.
        growth_bytes: by how much the broker's memory grew at most during the attack.
    """

    def __init__(self, made: Cluster, keys: Sequence[str] = ()) -> None:
        self.cluster = made
        self.calls = 0
        self.failures: dict[str, int] = {}
        self.longest_s = 0.0
        self.growth_bytes = 0
        self._memory = PeakMemory(made.broker.pid)
        self._honest = talking_process("tests.faults.attacks.honest", made.frontend, *keys)
        assert self._honest.stdout is not None
        assert self._honest.stdout.readline() == "calling\n", "the honest client calls"
        self._memory.start()

    def end(self) -> None:
        """End the honest client, and take its account. The attack is over, so each of its calls must be answered."""
        assert self._honest.stdin is not None
        assert self._honest.stdout is not None
        self._honest.stdin.close()
        wait_until(lambda: self._honest.poll() is not None, 70, "the honest client has ended")
        account: dict[str, Any] = json.loads(self._honest.stdout.read())
        self.calls, self.failures, self.longest_s = account["calls"], account["failures"], account["longest_s"]
        self.growth_bytes = self._memory.stop()

    def close(self) -> None:
        self._memory.stop()
        end_talking(self._honest)


class PeakMemory:
    """Samples the resident memory of a process in a thread."""

    def __init__(self, pid: int) -> None:
        self._path = Path(f"/proc/{pid}/statm")
        self._first = self._peak = self._resident()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> int:
        """Return by how much the memory has grown at most, in bytes."""
        self._is_over.set()
        self._thread.join()
        return self._peak - self._first

    def _resident(self) -> int:
        try:
            return int(self._path.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):  # the process has ended
            return 0

    def _sample(self) -> None:
        while not self._is_over.wait(_SAMPLE_S):
            self._peak = max(self._peak, self._resident())


@contextmanager
def attack(
    folder: Path, figure: Figure, name: str, *, longest_call_s: float = LONGEST_CALL_S, **broker_settings: str
) -> Iterator[Attack]:
    """Start a cluster with two workers that host the iris model, and an honest client; the body attacks.

    After the body, the honest client's account is noted and checked: none of its calls has failed, and the longest took
    at most `longest_call_s`.
    """
    with cluster(folder, None, None, code=ATTACKED, **broker_settings) as made:
        yield from _beside(Attack(made), figure, name, longest_call_s)


@contextmanager
def attack_on_keys(folder: Path, figure: Figure, name: str) -> Iterator[tuple[Attack, Keyed]]:
    """The same with keys: the honest client is called `honest`, and the attacker may make keys of its own."""
    with keyed_cluster(folder, "LightIris", "LightIris") as keyed:
        for beside in _beside(Attack(keyed.cluster, keyed.admit("client", "honest")), figure, name, LONGEST_CALL_S):
            yield beside, keyed


def _beside(made: Attack, figure: Figure, name: str, longest_call_s: float) -> Iterator[Attack]:
    try:
        yield made
        made.end()
    finally:
        made.close()
    figure(f"{name}: the honest client's longest call", made.longest_s, "s")
    figure(f"{name}: growth of the broker's memory", made.growth_bytes / _MIB, "MiB")
    assert made.failures == {}, "calls of the honest client failed"
    assert made.calls > 0
    assert made.longest_s < longest_call_s


@contextmanager
def peer(address: str, **options: Any) -> Iterator[zmq.Socket[bytes]]:
    """Connect a libzmq DEALER that sends any frames; its queues are unlimited."""
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    for name, value in {"linger": 0, "sndhwm": 0, "rcvhwm": 0, **options}.items():
        setattr(dealer, name, value)
    dealer.connect(address)
    try:
        yield dealer
    finally:
        dealer.close()
        context.term()
