"""The broker's own errors: their names, their texts for the caller, and the outcomes that they count as."""

from collections.abc import Sequence
from typing import NamedTuple

from broker.core.state import counters
from cluster.wire import events


class Failure(NamedTuple):
    """An error of the broker's own.

    Attributes:
        name: as `RemoteError.name` shows it.
        text: for the caller.
        outcome: the value of the `outcome` label that it counts as.
    """

    name: str
    text: str
    outcome: str


class ErrorKind(NamedTuple):
    """An error as the OpenRPC document describes it.

    Attributes:
        code: tells the errors of the document apart.
        when: when it occurs.
        executed: whether the call was executed.
    """

    code: int
    when: str
    executed: str


_NO_ROW = "no; of a list or a stream, the rows before it may have been"

ERROR_KINDS = {
    "NameError": ErrorKind(-32601, "there is no such procedure", "no"),
    "BadRequest": ErrorKind(-32602, "the arguments cannot be read, or are too many or too few", _NO_ROW),
    "MessageTooLarge": ErrorKind(1, "the call has more bytes than are accepted", "no"),
    "NotAllowed": ErrorKind(10, "this client may not call the procedure", "no"),
    "ServerBusy": ErrorKind(2, "the procedure's queue, or this client's share of it, is full", "no"),
    "NoWorkers": ErrorKind(3, "no worker that hosts the model has been ready for a while", "no"),
    "Draining": ErrorKind(4, "the broker is shutting down", "no"),
    "DeadlineExceeded": ErrorKind(5, "the call waited or ran longer than allowed", "the text says so"),
    "WorkerLost": ErrorKind(6, "the worker died during the call", "maybe"),
    "ResultTooLarge": ErrorKind(7, "the result has more bytes than are sent", "yes"),
    "MLModelSchemaValidationException": ErrorKind(8, "the input does not fit the model's schema", _NO_ROW),
    "ValueError": ErrorKind(9, "there is no such model", "no"),
}
"""Every error that a caller can meet, by name; the workers raise the last four."""

WORKER_ERROR = "WorkerError"
UNREADABLE_ANSWER = "the worker's answer could not be read"


# -- refused on arrival -----------------------------------------------------------------------------------------------


def message_too_large(size: int, limit: int) -> Failure:
    """The event has more bytes than `BROKER_MAX_MESSAGE_BYTES`."""
    text = f"the event has {size} bytes; at most {limit} are accepted"
    return Failure("MessageTooLarge", text, counters.TOO_LARGE)


def bad_request(text: str) -> Failure:
    """The arguments, the name or the header cannot be used."""
    return Failure("BadRequest", text, counters.BAD_REQUEST)


def name_not_a_string() -> Failure:
    """The event names its procedure by something that is not a string."""
    return bad_request("the name of the procedure must be a string")


def bad_timeout() -> Failure:
    """The header's `timeout_s` is not a time."""
    return bad_request(f"the header's {events.TIMEOUT_KEY} should be a positive number of seconds")


def wrong_arguments(procedure: str, args: Sequence[str], given: int | None) -> Failure:
    """The procedure takes another number of arguments; `given` is None if they are not an array."""
    signature = f"{procedure}({', '.join(args)})"
    if given is None:
        return bad_request(f"{signature}: the arguments must be an array")
    return bad_request(f"{signature} takes {len(args)} argument(s), {given} given")


def no_procedure(name: str) -> Failure:
    """The service does not have a procedure of that name."""
    text = f"{name[:80]!a} is not a procedure of this service; _zerorpc_list returns their names"
    return Failure("NameError", text, counters.NOT_FOUND)


def not_allowed(client: str, name: str) -> Failure:
    """The client's rules do not allow the procedure, whether it exists or not."""
    return Failure("NotAllowed", f"client {client!r} may not call {name[:80]!r}", counters.NOT_ALLOWED)


def draining() -> Failure:
    """The broker is about to stop."""
    text = "the broker is shutting down and takes no new calls; call again in a few seconds"
    return Failure("Draining", text, counters.DRAINING)


def server_busy(text: str) -> Failure:
    """A limit on waiting calls or open streams is reached; the text says which one."""
    return Failure("ServerBusy", text, counters.BUSY)


def no_workers(model: str, grace_s: float) -> Failure:
    """No worker has been ready for the model for `grace_s` seconds."""
    text = f"no worker that hosts {model} has been ready for {grace_s:g} s; the call was not executed"
    return Failure("NoWorkers", text, counters.NO_WORKERS)


# -- while a call is open ---------------------------------------------------------------------------------------------


def worker_died(kind: str, worker: str) -> Failure:
    """The worker, or the stock server, died, and the call must not be retried."""
    text = f"{kind} {worker} died during the call, which may have been executed"
    return Failure("WorkerLost", text, counters.WORKER_LOST)


def server_dropped(server: str) -> Failure:
    """A stock server has ended the conversation by itself: it took the broker for lost, or could not decode it."""
    text = f"server {server} has dropped the call, which may have been executed: its heartbeats have stopped"
    return Failure("WorkerLost", text, counters.WORKER_LOST)


def no_worker_for_retry() -> Failure:
    """The worker died, and no other worker came in time."""
    text = "the worker died during the call, which may have been executed, and no other worker has come"
    return Failure("WorkerLost", text, counters.WORKER_LOST)


def waited_too_long(age_s: float, deaths: int) -> Failure:
    """The call waited in its queue beyond its deadline."""
    executed = "it may have been executed by a worker that died" if deaths else "it was not executed"
    text = f"the call waited {age_s:.1f} s for a worker; {executed}"
    return Failure("DeadlineExceeded", text, counters.DEADLINE)


def ran_too_long(age_s: float) -> Failure:
    """The call ran beyond its deadline."""
    text = f"the call began and has not ended {age_s:.1f} s after it arrived; it may still end"
    return Failure("DeadlineExceeded", text, counters.DEADLINE)


def stream_stalled(timeout_s: float) -> Failure:
    """The stream has produced no item for the model's `timeout_s`."""
    return Failure("DeadlineExceeded", f"the stream has produced nothing for {timeout_s:g} s", counters.DEADLINE)


def stream_unread(unread_s: float) -> Failure:
    """The client has left a stream unread, and other clients wait for room."""
    text = (
        f"the stream was ended because other clients wait for one and this one was not read for {unread_s:.0f} s; "
        "read a stream to its end or close it"
    )
    return Failure("DeadlineExceeded", text, counters.DEADLINE)


def unasked_items(server: str) -> Failure:
    """A stock server has sent more events than the client announced room for."""
    text = f"server {server} has sent more items than the client has room for; the call may still run"
    return Failure(WORKER_ERROR, text, counters.ERROR)


def result_too_large(size: int, limit: int) -> Failure:
    """The worker's event has more bytes than a client can take."""
    text = f"the worker's answer has {size} bytes; at most {limit} are sent"
    return Failure("ResultTooLarge", text, counters.ERROR)


def broker_failed() -> Failure:
    """An exception that nobody foresaw has ended a step of the broker, and the call with it."""
    text = "the broker failed while it handled the call, which may have been executed; its log has the reason"
    return Failure(WORKER_ERROR, text, counters.ERROR)


class ProcedureError(Exception):
    """An error that one of the broker's own procedures raises for its caller.

    Attributes:
        name, text: as the caller sees them.
    """

    def __init__(self, name: str, text: str) -> None:
        super().__init__(name, text)
        self.name = name
        self.text = text
