"""The errors of the worker itself: every name and text that it sends stands here. A model's exceptions keep their own.

The names are part of what clients see (docs/models.md).
"""

from cluster.wire import events, protocol
from cluster.wire.arguments import BadArgumentsError
from worker.jobs.calls import Answer

CANCELLED: Answer = (protocol.REFUSE, events.encode_worker_error("Cancelled", "the call was cancelled"))
"""The broker has cancelled the call. No client sees this error."""

NOT_HOSTED: Answer = (protocol.REFUSE, events.encode_worker_error("NameError", "not a procedure of this worker"))
"""WORK names a procedure of a model that this worker does not host."""


class ResultTooLarge(Exception):  # noqa: N818 - callers see the name
    """A model's result is larger than the worker sends."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"the model's result has {size} bytes; at most {limit} are sent")


def bad_request(procedure: str, error: BadArgumentsError) -> Answer:
    """The arguments of a call cannot be read."""
    return protocol.REFUSE, events.encode_worker_error("BadRequest", f"{procedure}: {error}")


def wrong_argument_count(count: int) -> BadArgumentsError:
    """A call has more or fewer arguments than the one that every procedure of a model takes."""
    return BadArgumentsError(f"1 argument is taken, {count} given")


def internal_error(error: Exception) -> Answer:
    """The worker itself failed, so the model may have been called."""
    return protocol.REPLY, events.encode_worker_error("WorkerError", type(error).__name__)
