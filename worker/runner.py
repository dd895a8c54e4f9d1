"""Runs a model's calls in threads of their own, so that the message loop never waits for a model."""

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cluster import events, protocol
from cluster.events import ClientEvent
from worker.procedures import Answer, PredictProcedure

log = logging.getLogger(__name__)


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


@dataclass(slots=True, eq=False)
class Call:
    """One conversation's call; when a thread began with it, in monotonic seconds, and its answer when it has one."""

    registration: Registration
    number: bytes
    procedure: PredictProcedure
    event: ClientEvent
    payload: bytes
    started_s: float | None = None
    answer: Answer | None = None


_CANCELLED: Answer = (protocol.REFUSE, events.worker_error("Cancelled", "the caller has gone"))


class ModelRunner:
    """As many threads as a model has slots, fed by one queue."""

    def __init__(self, model: str, slots: int, done: Callable[[Call], None]) -> None:
        """Start the threads.

        Args:
            model: its name, for the threads' names.
            slots: how many calls run at one time.
            done: takes each call with its answer; called in the model's threads.
        """
        self._calls: queue.SimpleQueue[Call] = queue.SimpleQueue()
        self._done = done
        for slot in range(slots):
            # Daemons: a predict that never returns must not keep the process from ending.
            threading.Thread(target=self._run, name=f"{model}-{slot}", daemon=True).start()

    def submit(self, call: Call) -> None:
        """Run a call when its turn comes."""
        self._calls.put(call)

    def _run(self) -> None:
        while True:
            call = self._calls.get()
            registration = call.registration
            try:
                if registration.live and call.number not in registration.cancelled:
                    call.started_s = time.monotonic()
                    call.answer = call.procedure.answer(call.event, call.payload)
                else:
                    call.answer = _CANCELLED
            except Exception as error:  # a fault of ours must cost one call, and not the model's thread
                log.exception("a call could not be answered")
                call.answer = (protocol.REPLY, events.worker_error("WorkerError", type(error).__name__))
            self._done(call)
