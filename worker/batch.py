"""Calls as the worker has them: one registration's, in the batches in which the broker sent them."""

import logging
import time
from dataclasses import dataclass, field

from cluster import events, protocol
from cluster.events import ClientEvent
from worker.procedures import Answer, PredictProcedure

log = logging.getLogger(__name__)

_CANCELLED: Answer = (protocol.REFUSE, events.worker_error("Cancelled", "the caller has gone"))


@dataclass(slots=True)
class Registration:
    """One stay with the broker, from READY until the broker forgets this worker or the worker gives up.

    Attributes:
        id: the worker's id for this stay.
        live: False once it is over; nobody waits for what it still has to do.
        owed: the numbers of the conversations that the broker expects an answer to.
        cancelled: those among them that nobody waits for.
    """

    id: str
    live: bool = True
    owed: set[bytes] = field(default_factory=set)
    cancelled: set[bytes] = field(default_factory=set)


@dataclass(slots=True)
class Call:
    """One conversation's call: its number, its event as it was read, and as it came."""

    number: bytes
    event: ClientEvent
    payload: bytes


@dataclass(slots=True, eq=False)
class Batch:
    """Calls of one procedure that run together.

    Attributes:
        registration: whose they are.
        procedure: what is called.
        calls: in the order in which they came.
        started_s: when a thread began with them, in monotonic seconds; None before.
        took_s: how long that took, in seconds.
        answers: one for each call, once they have run.
    """

    registration: Registration
    procedure: PredictProcedure
    calls: list[Call]
    started_s: float | None = None
    took_s: float = 0.0
    answers: list[Answer] = field(default_factory=list)

    def run(self) -> None:
        """Have the procedure answer the calls, but for those whose answer nobody waits for."""
        self.started_s = time.monotonic()
        try:
            self.answers = self._run()
        except Exception as error:  # a fault of ours must cost these calls, and not a thread
            log.exception("calls could not be answered")
            fault = (protocol.REPLY, events.worker_error("WorkerError", type(error).__name__))
            self.answers = [fault] * len(self.calls)
        self.took_s = time.monotonic() - self.started_s

    def _run(self) -> list[Answer]:
        registration = self.registration
        if registration.live and not registration.cancelled:
            return self.procedure.answer([(call.event, call.payload) for call in self.calls])
        asked = [call for call in self.calls if registration.live and call.number not in registration.cancelled]
        answers = self.procedure.answer([(call.event, call.payload) for call in asked])
        by_number = {call.number: answer for call, answer in zip(asked, answers, strict=True)}
        return [by_number.get(call.number, _CANCELLED) for call in self.calls]
