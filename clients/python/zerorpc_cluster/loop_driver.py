"""Moves the bytes of a client in an asyncio event loop."""

import asyncio
import functools
import socket
from collections.abc import Callable
from selectors import EVENT_READ, EVENT_WRITE
from typing import Any

from zerorpc_cluster.calls import Call
from zerorpc_cluster.errors import ClientClosedError
from zerorpc_cluster.line import TICK_S, Line
from zerorpc_cluster.options import Options
from zmtp.connection import Connection
from zmtp.endpoint import TcpEndpoint, parse_endpoint


class LoopDriver:
    """Runs a `Line` in an event loop. For that loop's thread only.

    Attributes:
        line: the connection.
    """

    def __init__(self, address: str, options: Options) -> None:
        """Begin without a connection.

        Raises:
            RuntimeError: if no event loop runs.
        """
        self.loop = asyncio.get_running_loop()
        self.line = Line(address, _LoopWatcher(self.loop, self._on_events), options)
        self._endpoint = parse_endpoint(address)
        self._address = address
        self._is_closed = False
        self._will_send = False
        self._timer: asyncio.TimerHandle | None = None
        self._connecting: asyncio.Task[None] | None = None

    def start(self, call: Call) -> None:
        """Begin a call; send it if there is a connection.

        Raises:
            ClientClosedError: if the client has been closed.
        """
        if self._is_closed:
            raise ClientClosedError("the client has been closed")
        self.line.calls.add(call)
        if self._timer is None:
            self._timer = self.loop.call_later(TICK_S, self._tick)
        self._send_soon()

    async def wait(self, call: Call, until_s: float) -> None:
        """Wait until the call is settled, or until that time, in the seconds of the event loop."""
        if call.is_settled:
            return
        future = self.loop.create_future()
        call.wake = functools.partial(_finish, future)
        timer = self.loop.call_at(until_s, call.wake) if until_s < float("inf") else None
        try:
            await future
        finally:
            call.stop_waking()
            if timer is not None:
                timer.cancel()

    def expire(self, call: Call, timeout_s: float) -> None:
        """Fail a call unless it is settled, because it has waited for `timeout_s`."""
        self.line.expire(call, timeout_s, self.loop.time())

    def take_item(self, call: Call) -> Any:
        """Return an item of a call that has one, and announce slots to the server."""
        item = self.line.calls.take_item(call)
        if self.line.calls.has_unsent:
            self._send_soon()
        return item

    def abandon(self, call: Call) -> None:
        """End a call that nobody waits for any more, and tell the server."""
        self.line.calls.abandon(call)
        self._send_soon()

    def abandon_soon(self, call: Call) -> None:
        """Do the same from any thread: the garbage collector may run in another one."""
        if not call.is_done and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.abandon, call)

    def close(self) -> None:
        """End all calls and close the connection. May be called twice."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
        self.line.close(ClientClosedError("the client has been closed"))

    # -- what the event loop calls --------------------------------------------------------------------------------

    def _send_soon(self) -> None:
        """Send once for everything that this turn of the event loop brings."""
        if not self._will_send:
            self._will_send = True
            self.loop.call_soon(self._send)

    def _send(self) -> None:
        self._will_send = False
        self.line.send(self.loop.time())
        self._connect_if_needed()

    def _on_events(self) -> None:
        self.line.receive(self.loop.time())
        self._connect_if_needed()

    def _tick(self) -> None:
        self._timer = self.loop.call_later(TICK_S, self._tick) if self.line.calls.open else None
        self.line.tick(self.loop.time())
        self._connect_if_needed()

    def _connect_if_needed(self) -> None:
        is_needed = not self.line.is_connected and self.line.calls.open and not self._is_closed
        if is_needed and (self._connecting is None or self._connecting.done()):
            self._connecting = self.loop.create_task(self._connect())

    async def _connect(self) -> None:
        """Connect when that is due, and again while it fails at once."""
        while not self.line.is_connected and self.line.calls.open:
            await asyncio.sleep(max(self.line.retry_at_s - self.loop.time(), 0.0))
            try:
                endpoint = await self._resolve()
            except OSError as error:
                self.line.cannot_connect(error, self.loop.time())
            else:
                self.line.connect(endpoint, self.loop.time())

    async def _resolve(self) -> str:
        """Look up the host name of the address without stopping the event loop."""
        endpoint = self._endpoint
        if not isinstance(endpoint, TcpEndpoint):
            return self._address
        family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
        found = await self.loop.getaddrinfo(endpoint.host, endpoint.port, family=family, type=socket.SOCK_STREAM)
        return str(TcpEndpoint(str(found[0][4][0]), endpoint.port))


def _finish(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


class _LoopWatcher:
    """An event loop that looks like a selector."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_events: Callable[[], None]) -> None:
        self._loop = loop
        self._on_events = on_events

    def register(self, fileobj: Connection, events: int, data: Any = None) -> None:
        """Call the driver when one of the events occurs."""
        self.modify(fileobj, events, data)

    def modify(self, fileobj: Connection, events: int, data: Any = None) -> None:
        """Call the driver for other events."""
        descriptor = fileobj.fileno()
        assert events & EVENT_READ
        self._loop.add_reader(descriptor, self._on_events)
        if events & EVENT_WRITE:
            self._loop.add_writer(descriptor, self._on_events)
        else:
            self._loop.remove_writer(descriptor)

    def unregister(self, fileobj: Connection) -> None:
        """Call the driver no more."""
        if not self._loop.is_closed():
            self._loop.remove_reader(fileobj.fileno())
            self._loop.remove_writer(fileobj.fileno())
