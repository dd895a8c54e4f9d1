"""The protocol between broker and worker: message kinds, timing, and descriptions. docs/protocol.md specifies it.

A message is a ZeroMQ multipart message; its first frame is its kind, one byte. This module has no socket and no policy:
the broker and the worker decide what they do with a message.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

VERSION = 3
"""Version of the protocol. READY names it; the broker refuses any other version."""

# worker -> broker
READY = b"\x01"  # description
REPLY = b"\x02"  # pairs of call number and event
REFUSE = b"\x03"  # pairs of call number and ERR event: not executed
DRAIN = b"\x04"  # asks for no more work; the broker answers DRAIN after its last WORK
BYE = b"\x05"  # the worker leaves; from the broker, with a reason: disconnect and do not reconnect
LOADED = b"\x07"  # order number, description: the model can be called from now on
FAILED = b"\x08"  # order number, reason: the order changed nothing
UNLOADED = b"\x09"  # order number: the model is unloaded

# both ways
PING = b"\x06"  # heartbeat

# broker -> worker
WELCOME = b"\x11"  # the READY was accepted
WORK = b"\x12"  # procedure, pairs of call number and event
MORE = b"\x13"  # call number, slots: the client can take that many more stream items
CANCEL = b"\x14"  # call number: the client does not wait for the answer any more
RESET = b"\x15"  # the broker does not know this worker: register again, with a new id, on a new socket
LOAD = b"\x16"  # order number, entry: load a model, or load it again
UNLOAD = b"\x17"  # order number, qualified name, version: unload a model

PING_INTERVAL_S = 0.25
"""Seconds between two PINGs from the broker to a worker; they show that the broker is alive."""

WORKER_PING_INTERVAL_S = 1.0
"""Seconds between two PINGs from a worker; a broker that does not know the worker, after a restart, answers RESET."""

HEARTBEAT_INTERVAL_S = 1.0
HEARTBEAT_TIMEOUT_S = 3.0
"""Interval and timeout of ZeroMQ's heartbeats on the backend, in seconds. libzmq answers them in its own thread: they
continue while a model holds the interpreter lock for minutes, and stop when the process is dead, frozen or cut off."""

SILENCE_S = 10.0
"""Seconds without any message after which a worker closes its connection and reconnects."""

MAX_CAPACITY = 10_000
"""Largest capacity of one model at one worker, in batches and in streams. It bounds the broker's tables."""

MAX_BATCH_SIZE = 100_000
"""Most calls in one batch of a model."""

MAX_BATCH_WAIT_MS = 60_000.0
"""Longest time that a call may wait for others to fill its batch, in milliseconds."""

MIN_TIMEOUT_S, MAX_TIMEOUT_S = 0.001, 30 * 86_400.0
"""Shortest and longest time that a call may run, in seconds."""

MAX_VERSION = 1_000_000_000
"""Largest number in the version of a model."""

MAX_RESULT_BYTES = 64 * 1024 * 1024
"""Largest event of a worker that reaches a client, in bytes. The decoder of stock clients stops at 100 MiB, and their
channel is lost while they decode."""

NUMBER_BYTES = 8
"""Length of a call number, in bytes. A worker does not interpret the number."""


class ProtocolError(Exception):
    """A message that the protocol does not allow; the text is for the sender's log."""


class Version(NamedTuple):
    """The version of a model."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"

    @classmethod
    def read(cls, text: str) -> "Version":
        """Parse "major.minor".

        Raises:
            ValueError: if the text has another form.
        """
        major, dot, minor = text.partition(".")
        if not dot or not all(part.isascii() and part.isdecimal() for part in (major, minor)):
            raise ValueError(f"{text!r} is not a version: it should be two numbers, such as 0.1")
        return cls(int(major), int(minor))


ModelKey = tuple[str, Version]
"""Qualified name and version of a model."""


def model_source(entry: Mapping[str, Any]) -> str:
    """Return the class that an entry names, as `module:Class`."""
    return f"{entry.get('module_name')}:{entry.get('class_name')}"


@dataclass(frozen=True, slots=True)
class ProcedureDescription:
    """A procedure of a model.

    Attributes:
        name: `<qualified_name>_<verb>`. Clients call this name, or the same name with the version in it.
        doc: the docstring.
        args: the names of the parameters.
        is_stream: whether the answer is a stream, which may stay open for hours.
        is_list: whether one call carries many rows, so that it is a batch of its own.
    """

    name: str
    doc: str
    args: list[str]
    is_stream: bool = False
    is_list: bool = False


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """A model as a worker hosts it.

    Attributes:
        display_name, qualified_name, description, major_version, minor_version: attributes of the model.
        input_schema, output_schema: JSON Schema of the input and the output.
        slots: number of batches that run at once.
        retry: whether the broker may retry a call whose worker died.
        timeout_s: how long a call may run, in seconds.
        max_batch_size: number of calls in a batch; 1 for a model without batches.
        batches_ahead: number of batches that may wait at the worker while others run.
        batch_wait_ms: how long the broker holds a call back to fill its batch while a worker is free, in milliseconds.
        max_streams: number of streams that may be open at a worker; streams do not use the capacity for batches.
        examples: inputs with their outputs, as maps of `input` and `output` with JSON values.
        procedures: the procedures of the model.
        entry: the configuration entry the model was loaded from, as in LOAD; empty if it cannot be loaded again.
        is_configured: whether the worker's own configuration names the model (no LOAD was needed).
    """

    display_name: str
    qualified_name: str
    description: str
    major_version: int
    minor_version: int
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    slots: int = 1
    retry: bool = True
    timeout_s: float = 300.0
    max_batch_size: int = 1
    batches_ahead: int = 0
    batch_wait_ms: float = 0.0
    max_streams: int = 1000
    examples: list[dict[str, Any]] = field(default_factory=list)
    procedures: list[ProcedureDescription] = field(default_factory=list)
    entry: dict[str, Any] = field(default_factory=dict)
    is_configured: bool = True

    @property
    def version(self) -> Version:
        """The version as one value."""
        return Version(self.major_version, self.minor_version)

    @property
    def key(self) -> ModelKey:
        """The key of this version among all models."""
        return self.qualified_name, self.version

    def pinned(self, procedure: str) -> str:
        """Return the name of a procedure with the version in it: `<qualified_name>_v<major>_<minor>_<verb>`."""
        return f"{self.pinned_name}{procedure.removeprefix(self.qualified_name)}"

    @property
    def pinned_name(self) -> str:
        """The qualified name with the version in it."""
        return f"{self.qualified_name}_v{self.major_version}_{self.minor_version}"


@dataclass(frozen=True, slots=True)
class WorkerDescription:
    """A worker as it describes itself in READY.

    Attributes:
        protocol: `VERSION`.
        id: id of this registration; a worker makes a new one each time it registers.
        host: name of the machine.
        pid: process id of the worker.
        metrics_address: `host:port` at which Prometheus can scrape the worker; empty if it has no HTTP.
        models: the models that the worker hosts.
        loads: whether the worker understands LOAD and UNLOAD.
    """

    protocol: int
    id: str
    host: str
    pid: int
    metrics_address: str = ""
    models: list[ModelDescription] = field(default_factory=list)
    loads: bool = False

    @property
    def process(self) -> str:
        """Name of the worker's process, the same in all its registrations; the `worker` label of metrics."""
        return f"{self.host}-{self.pid}"
