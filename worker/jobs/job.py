"""What models have to do: jobs, which threads run, and the calls that they answer."""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

from cluster.wire import events, protocol
from cluster.wire.events import BadArgumentsError, ClientEvent
from cluster.wire.protocol import ModelDescription

log = logging.getLogger(__name__)

Answer = tuple[bytes, bytes]
"""(kind of message, event): REPLY if the procedure was executed, REFUSE if it was not, or not to its end."""

CANCELLED: Answer = (protocol.REFUSE, events.encode_worker_error("Cancelled", "the caller has gone"))


def refusal(procedure: str, error: BadArgumentsError) -> Answer:
    """Arguments that cannot be read."""
    return protocol.REFUSE, events.encode_worker_error("BadRequest", f"{procedure}: {error}")


@dataclass(slots=True)
class Registration:
    """One stay with the broker, from READY until the broker forgets this worker or the worker gives up.

    Attributes:
        id: the worker's id for this stay.
        live: False once it is over; nobody waits for what it still has to do.
        owed: the numbers of the calls that the broker expects an answer to.
        cancelled: those among them that nobody waits for.
    """

    id: str
    live: bool = True
    owed: set[bytes] = field(default_factory=set)
    cancelled: set[bytes] = field(default_factory=set)


@dataclass(slots=True)
class Call:
    """One call's call: its number, its event as it was read, and as it came."""

    number: bytes
    event: ClientEvent
    payload: bytes


class Job(ABC):
    """Calls of one procedure that are answered together.

    A thread runs it, once, or several times with others having their turns in between; after each time the loop takes
    what there is to say. Never both at one time.

    Attributes:
        registration: whose calls they are.
        procedure: what is called.
        model: of which model.
        calls: in the order in which they came.
        started_s: when a thread began with it, in monotonic seconds; None before.
        took_s: how long that took, in seconds.
        is_queued: whether it waits for its turn, or has it.
    """

    def __init__(
        self, registration: Registration, procedure: str, model: ModelDescription, calls: Sequence[Call]
    ) -> None:
        self.registration = registration
        self.procedure = procedure
        self.model = model
        self.calls = calls
        self.started_s: float | None = None
        self.took_s = 0.0
        self.is_queued = False

    def run(self) -> None:
        """Do the work, or a part of it."""
        self.started_s = time.monotonic()
        try:
            self._run()
        except Exception as error:  # a fault of ours must cost these calls, and not a thread
            log.exception("calls could not be answered")
            self._fail((protocol.REPLY, events.encode_worker_error("WorkerError", type(error).__name__)))
        self.took_s = time.monotonic() - self.started_s

    @property
    @abstractmethod
    def wants_to_run(self) -> bool:
        """Whether there is more to do now."""

    @property
    @abstractmethod
    def is_over(self) -> bool:
        """Whether all that there is to say has been taken, or will be at once."""

    @abstractmethod
    def take_answers(self) -> list[tuple[bytes, Answer]]:
        """What is to be said now, in this order, with the numbers of the calls. For the loop."""

    @abstractmethod
    def _run(self) -> None: ...

    @abstractmethod
    def _fail(self, answer: Answer) -> None:
        """Whatever is unanswered gets that answer."""

    def _is_unwanted(self, call: Call) -> bool:
        """Whether nobody waits for that call's answer any more."""
        return not self.registration.live or call.number in self.registration.cancelled
