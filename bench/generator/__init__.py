"""The load generator of the benchmark: builds it from the C files beside this one, and runs it."""

import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import msgpack

_FOLDER = Path(__file__).parent
_PROGRAM = _FOLDER / "load"
_FLAGS = ("-O2", "-std=c11", "-Wall", "-Wextra", "-Werror")

_ZERORPC_CONNECTIONS = 8
"""Connections to a ZeroRPC service, each for many calls. HTTP servers get one for each call in flight."""

_HTTP_CONNECTIONS_AT_A_RATE = 64

_VERSION = b"\xa1v\x03"


class GeneratorError(Exception):
    """The load generator cannot be built, or cannot put load on a service; the text names the cause."""


@dataclass(frozen=True)
class Load:
    """What the load generator measured.

    Attributes:
        calls: calls made.
        failed: those without the expected answer.
        calls_a_second, items_a_second: expected answers, and items of streams, per second.
        p50_ms, p99_ms: latency, in milliseconds.
        late_p99_ms: how much later than due the calls of an open loop were sent, in milliseconds.
        cpu_s: CPU time of the load generator, in seconds.
        failure: what the first call got that failed; empty if none did.
    """

    calls: int
    failed: int
    calls_a_second: float
    items_a_second: float
    p50_ms: float
    p99_ms: float
    late_p99_ms: float
    cpu_s: float
    failure: str


def zerorpc_request(procedure: str, argument: object) -> bytes:
    """Return the bytes of a call: its first event (zerorpc `Event.pack`) from behind the message id on."""
    event: bytes = _VERSION + msgpack.packb(procedure) + msgpack.packb([argument])
    return event


def http_request(url: str, body: bytes, content_type: str) -> bytes:
    """Return the bytes of a POST request."""
    parts = urlsplit(url)
    lines = (
        f"POST {parts.path or '/'} HTTP/1.1",
        f"Host: {parts.netloc}",
        f"Content-Type: {content_type}",
        "Accept: */*",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def run(
    address: str,
    request: bytes,
    seconds: float,
    *,
    in_flight: int = 1,
    rate: float = 0.0,
    connections: int | None = None,
    contains: str = "",
) -> Load:
    """Put load on a service.

    Args:
        address: `tcp://host:port` of a ZeroRPC service, or `http://host:port/...`; the host is an IPv4 address.
        request: the bytes of a call.
        seconds: length of the measurement.
        in_flight: number of calls to keep open.
        rate: calls to make per second instead, whatever becomes of them.
        connections: number of connections; by default what suits the protocol.
        contains: what every correct answer contains; by default every answer must equal the first one.

    Raises:
        GeneratorError: if the first call fails, or a connection is lost.
    """
    parts = urlsplit(address)
    is_http = parts.scheme == "http"
    if connections is None and is_http:
        connections = _HTTP_CONNECTIONS_AT_A_RATE if rate else in_flight
    elif connections is None:
        connections = _ZERORPC_CONNECTIONS if rate else min(_ZERORPC_CONNECTIONS, in_flight)
    with tempfile.NamedTemporaryFile() as file:
        file.write(request)
        file.flush()
        target = ("http" if is_http else "zerorpc", str(parts.hostname), str(parts.port))
        how = (str(connections), str(in_flight), f"{rate:.3f}", f"{seconds:.3f}", file.name)
        command = (str(_build()), *target, *how, *((contains,) if contains else ()))
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise GeneratorError(done.stderr.strip())
    return Load(**json.loads(done.stdout), failure=done.stderr.strip())


@cache
def _build() -> Path:
    """Return the program; build it if its files are newer."""
    sources = sorted(_FOLDER.glob("*.[ch]"))
    if _PROGRAM.exists() and all(source.stat().st_mtime < _PROGRAM.stat().st_mtime for source in sources):
        return _PROGRAM
    compiler = shutil.which("cc")
    if compiler is None:
        raise GeneratorError("there is no C compiler cc for the load generator; install one (Debian: apt install gcc)")
    files = [str(source) for source in sources if source.suffix == ".c"]
    done = subprocess.run((compiler, *_FLAGS, "-o", str(_PROGRAM), *files), capture_output=True, text=True, check=False)
    if done.returncode:
        raise GeneratorError(f"{compiler} cannot build the load generator:\n{done.stderr}")
    return _PROGRAM
