"""The worker's side of the protocol: kinds of messages, and how a worker describes itself. See docs/protocol.md.

A message between broker and worker is a ZeroMQ multipart message whose first frame is its kind, one byte. No socket
and no policy here: what a kind makes the broker or the worker do is theirs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

VERSION = 3
"""Named in READY; the broker refuses any other."""

# worker -> broker
READY = b"\x01"  # description
REPLY = b"\x02"  # pairs of call number and event
REFUSE = b"\x03"  # pairs of call number and ERR event: not executed
DRAIN = b"\x04"  # no more work, please; the broker says it back when it will send none
BYE = b"\x05"  # gone; from the broker: (reason), go and do not come back
LOADED = b"\x07"  # number of the order, description of the model, which can be called from now on
FAILED = b"\x08"  # number of the order, reason: everything is as it was
UNLOADED = b"\x09"  # number of the order

# both ways
PING = b"\x06"  # nothing but a sign of life

# broker -> worker
WELCOME = b"\x11"  # the READY was accepted
WORK = b"\x12"  # procedure, pairs of call number and event
MORE = b"\x13"  # call number, slots: the client can take that many more stream items
CANCEL = b"\x14"  # call number: nobody waits for it any more
RESET = b"\x15"  # the broker does not know you: register anew, with a new id, on a new socket
LOAD = b"\x16"  # number of an order, entry: host a model as well, or anew
UNLOAD = b"\x17"  # number of an order, qualified name, version: host it no longer

PING_INTERVAL_S = 0.25
"""Seconds between two PINGs of the broker to a worker, which tell it that the broker is there."""

WORKER_PING_INTERVAL_S = 1.0
"""Seconds between two PINGs of a worker: a broker that has forgotten it (a restart) answers RESET."""

HEARTBEAT_INTERVAL_S = 1.0
HEARTBEAT_TIMEOUT_S = 3.0
"""ZeroMQ's own heartbeats on the broker's backend. libzmq's thread answers them, so they go on while a model holds
the interpreter lock for minutes, and stop when the process is dead, frozen or cut off."""

SILENCE_S = 10.0
"""Seconds without any message after which a worker gives its connection up and makes a new one."""

MAX_CAPACITY = 10_000
"""Most streams of a model that may be open at a worker, and most batches; the broker keeps a table for each number."""

NUMBER_BYTES = 8
"""Length of a call number. Opaque to the worker."""


class ProtocolError(Exception):
    """A message that the protocol does not allow; the text is for the log of the one who sent it."""


class Version(NamedTuple):
    """The version of a model."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"

    @classmethod
    def read(cls, text: str) -> "Version":
        """Read what `str` made.

        Raises:
            ValueError: if it is no such text.
        """
        major, dot, minor = text.partition(".")
        if not dot or not all(part.isascii() and part.isdecimal() for part in (major, minor)):
            raise ValueError(f"{text!r} is no version: it should be two numbers, such as 0.1")
        return cls(int(major), int(minor))


ModelKey = tuple[str, Version]
"""A model's qualified name, and its version."""


def model_source(entry: Mapping[str, Any]) -> str:
    """Where an entry's model comes from: `module:Class`."""
    return f"{entry.get('module_name')}:{entry.get('class_name')}"


@dataclass(frozen=True, slots=True)
class ProcedureDescription:
    """A procedure of a model.

    Attributes:
        name: the model's qualified name, `_`, and what it does. Clients can call it so, or with the version in it.
        doc, args: its docstring, and its parameters' names.
        is_stream: whether it is answered with a stream, which may stay open for long.
        is_list: whether a call of it has many rows, and so is a batch of its own.
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
        display_name, qualified_name, description, major_version, minor_version: the model's own.
        input_schema, output_schema: as JSON Schema.
        slots: how many batches of it run at one time.
        max_batch_size: how many calls a batch may have; 1 for a model that takes them one by one.
        batches_ahead: how many batches may wait at the worker while others run there.
        batch_wait_ms: how long a call may wait for others to make a batch with, in milliseconds, where there is room.
        max_streams: how many streams of it may be open at a worker; they take no room of batches.
        examples: inputs that it takes, and what it made of them: maps of `input` and `output`, of JSON's values.
        retry: whether a call that was under way when its worker died may run once more.
        timeout_s: how long a call of it may run, in seconds.
        procedures: what can be called.
        entry: what it was loaded from, as LOAD has it; empty if it cannot be loaded anew.
        is_configured: whether the worker would host it without having been told to.
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
        """Its version."""
        return Version(self.major_version, self.minor_version)

    @property
    def key(self) -> ModelKey:
        """Names it among all versions of all models."""
        return self.qualified_name, self.version

    def pinned(self, procedure: str) -> str:
        """The name of one of its procedures with the version in it: `<qualified_name>_v<major>_<minor>_<...>`."""
        return f"{self.pinned_name}{procedure.removeprefix(self.qualified_name)}"

    @property
    def pinned_name(self) -> str:
        """Its qualified name with the version in it."""
        return f"{self.qualified_name}_v{self.major_version}_{self.minor_version}"


@dataclass(frozen=True, slots=True)
class WorkerDescription:
    """What a worker says of itself in READY.

    Attributes:
        protocol: `VERSION`.
        id: new for each registration.
        host: the machine's name.
        pid: of the worker's process.
        metrics_address: `host:port` where Prometheus can reach its HTTP endpoint.
        models: what it hosts.
        loads: whether it understands LOAD and UNLOAD.
    """

    protocol: int
    id: str
    host: str
    pid: int
    metrics_address: str
    models: list[ModelDescription] = field(default_factory=list)
    loads: bool = False

    @property
    def process(self) -> str:
        """Names the worker's process, through all its registrations: the `worker` label of metrics."""
        return f"{self.host}-{self.pid}"
