"""Moves the bytes of a client that many threads share: the pattern Leader/Followers.

One of the threads that wait for an answer leads: it watches the connection for all of them, wakes those whose answer
has come, and passes the lead on when its own has. So a call that comes alone costs no change of threads. While nobody
waits, a thread of the client's own looks after the connection once a second.
"""

import os
import threading
import time
import weakref
from collections import deque
from selectors import DefaultSelector
from typing import Any

from zerorpc_cluster.calls import Call
from zerorpc_cluster.errors import ClientClosedError
from zerorpc_cluster.line import TICK_S, Line
from zerorpc_cluster.options import Options

UPKEEP_INTERVAL_S = 1.0
"""How often the client's own thread looks after the connection, in seconds."""

_IDLE_S = 0.2
"""After this time without a leader, in seconds, a call first looks whether the connection still exists."""

_LEAST_WAIT_S = 0.001

_MOST_READS = 1000
"""Reads in one turn of the client's own thread."""


class ThreadDriver:
    """Runs a `Line` in the threads that wait for its calls. Every method may be called by any thread.

    Attributes:
        line: the connection. Use it only with `mutex` held.
        mutex: guards everything.
    """

    def __init__(self, address: str, options: Options) -> None:
        """Begin without a connection."""
        self.mutex = threading.Lock()
        self._address = address
        self._pid = os.getpid()
        self._selector = DefaultSelector()
        self.line = Line(address, self._selector, options)
        self._left: deque[Call] = deque()  # calls whose callers have left, and whose server does not know it yet
        self._is_led = False
        self._led_until_s = 0.0
        self._tick_at_s = 0.0
        self._followers: dict[Call, threading.Lock] = {}  # a thread waits for each lock
        self._is_closed = threading.Event()
        self._upkeep: threading.Thread | None = None

    def start(self, call: Call) -> None:
        """Begin a call; send it if there is a connection.

        Raises:
            ClientClosedError: if the client has been closed.
        """
        with self.mutex:
            if self._is_closed.is_set():
                raise ClientClosedError("the client has been closed")
            if self._upkeep is None:
                self._upkeep = threading.Thread(
                    target=_look_after, args=(weakref.ref(self), self._is_closed), name="zerorpc-upkeep", daemon=True
                )
                self._upkeep.start()
            now_s = time.monotonic()
            if not self._is_led and self.line.is_ready and now_s - self._led_until_s > _IDLE_S:
                self.line.receive(now_s)  # the server may have closed the connection meanwhile
            self.line.calls.add(call)
            self.line.send(now_s)

    def wait(self, call: Call, until_s: float) -> None:
        """Wait until the call is settled, or until that time, in monotonic seconds."""
        while True:
            with self.mutex:
                if call.is_settled:
                    return
                leads = not self._is_led
                if leads:
                    self._is_led = True
                else:
                    turn = self._follow(call)
            if leads:
                self._lead(call, until_s)
                return
            left_s = until_s - time.monotonic()
            turn.acquire(timeout=min(max(left_s, 0.0), threading.TIMEOUT_MAX))
            with self.mutex:
                self._followers.pop(call, None)
                call.stop_waking()
                if call.is_settled or time.monotonic() >= until_s:
                    self._promote()  # this thread may have been promoted, and does not need it
                    return

    def expire(self, call: Call, timeout_s: float) -> None:
        """Fail a call unless it is settled, because it has waited for `timeout_s`."""
        with self.mutex:
            self.line.expire(call, timeout_s, time.monotonic())

    def take_item(self, call: Call) -> Any:
        """Return an item of a call that has one, and announce slots to the server."""
        with self.mutex:
            item = self.line.calls.take_item(call)
            if self.line.calls.has_unsent:
                self.line.send(time.monotonic())
            return item

    def abandon(self, call: Call) -> None:
        """End a call that nobody waits for any more, and tell the server."""
        with self.mutex:
            self._left.append(call)
            self._abandon_left()

    def abandon_unlocked(self, call: Call) -> None:
        """Do the same, but never wait: the garbage collector may run in a thread that holds the lock."""
        if self._pid != os.getpid():
            return  # a forked child drops what belongs to its parent
        self._left.append(call)
        if self.mutex.acquire(blocking=False):
            try:
                self._abandon_left()
            finally:
                self.mutex.release()

    def _abandon_left(self) -> None:
        if not self._left:
            return
        while self._left:
            self.line.calls.abandon(self._left.popleft())
        self.line.send(time.monotonic())

    def close(self) -> None:
        """End all calls and close the connection. May be called twice."""
        with self.mutex:
            self._is_closed.set()
            self.line.close(ClientClosedError("the client has been closed"))
            if not self._is_led:
                self._selector.close()

    # -- leading and following ------------------------------------------------------------------------------------

    def _follow(self, call: Call) -> threading.Lock:
        """Return a lock that is released when the call is settled or its thread should lead."""
        turn = threading.Lock()
        turn.acquire()
        self._followers[call] = turn
        call.wake = lambda: self._wake(call)
        return turn

    def _wake(self, call: Call) -> None:
        turn = self._followers.pop(call, None)
        if turn is not None:
            turn.release()

    def _promote(self) -> None:
        """Wake a thread that will lead, unless there is a leader or no thread waits."""
        if not self._is_led and self._followers:
            self._wake(next(iter(self._followers)))

    def _lead(self, call: Call, until_s: float) -> None:
        """Run the connection until the call is settled."""
        line = self.line
        try:
            while True:
                with self.mutex:
                    now_s = time.monotonic()
                    wait_s = min(self._turn(now_s), until_s - now_s)
                if wait_s <= 0 or call.is_settled:
                    return
                self._selector.select(wait_s)
                with self.mutex:
                    line.receive(time.monotonic())
                    if call.is_settled:
                        return
        finally:
            with self.mutex:
                self._resign()

    def _resign(self) -> None:
        self._is_led = False
        self._led_until_s = time.monotonic()
        if self._is_closed.is_set():
            self._selector.close()
        self._promote()

    def _turn(self, now_s: float) -> float:
        """Do what is due; return how long the leader may wait for the server, in seconds."""
        line = self.line
        if self._is_closed.is_set():
            return TICK_S
        self._abandon_left()
        if not line.is_connected and now_s >= line.retry_at_s:
            line.connect(self._address, now_s)
        if now_s >= self._tick_at_s:
            self._tick_at_s = now_s + TICK_S
            line.tick(now_s)
        due_s = self._tick_at_s if line.is_connected else min(self._tick_at_s, line.retry_at_s)
        return max(due_s - now_s, _LEAST_WAIT_S)

    def look_after(self) -> None:
        """Read what has come, and answer and send what is due, unless another thread leads."""
        with self.mutex:
            if self._is_led or self._is_closed.is_set() or not self.line.is_connected:
                return
            self._abandon_left()
            for _ in range(_MOST_READS):
                if not self._selector.select(0):
                    break
                self.line.receive(time.monotonic())
            self.line.tick(time.monotonic())


def _look_after(driver_ref: "weakref.ref[ThreadDriver]", is_closed: threading.Event) -> None:
    """Look after a driver as long as it exists and is open."""
    while not is_closed.wait(UPKEEP_INTERVAL_S):
        driver = driver_ref()
        if driver is None:
            return
        driver.look_after()
        del driver
