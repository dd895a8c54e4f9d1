"""What is to be sent, and noted in the log, since it was last taken out. Pure: the message loop does the sending."""

from broker.catalogue import Worker
from cluster import protocol

Send = tuple[bytes, list[bytes]]
"""(identity, frames) of one message."""

_DELIMITER = b""


class Outbox:
    """Collects messages; each is handed out once."""

    def __init__(self) -> None:
        self._to_clients: list[Send] = []
        self._to_workers: list[Send] = []
        self._work: dict[bytes, list[bytes]] = {}  # by worker: what arrived together goes in one message
        self._after_work: list[Send] = []
        self._notes: list[str] = []

    def to_client(self, identity: bytes, event: bytes) -> None:
        """An event for a client."""
        self._to_clients.append((identity, [_DELIMITER, event]))

    def to_worker(self, identity: bytes, *frames: bytes) -> None:
        """A message for a worker, kind first."""
        self._to_workers.append((identity, list(frames)))

    def work(self, worker: Worker, number: bytes, event: bytes, slots: int) -> None:
        """A call for a worker, and the further slots that its client has announced while it waited."""
        frames = self._work.get(worker.identity)
        if frames is None:
            frames = self._work[worker.identity] = [protocol.WORK]
        frames += (number, event)
        if slots:  # about a conversation of which the worker must hear first
            self._after_work.append((worker.identity, [protocol.MORE, number, slots.to_bytes(4, "big")]))

    def note(self, line: str) -> None:
        """A line for the log."""
        self._notes.append(line)

    def take(self) -> tuple[list[Send], list[Send]]:
        """The messages to clients and to workers."""
        to_clients, to_workers = self._to_clients, self._to_workers
        if self._work:
            to_workers += self._work.items()
            self._work = {}
        if self._after_work:
            to_workers += self._after_work
            self._after_work = []
        self._to_clients, self._to_workers = [], []
        return to_clients, to_workers

    def take_notes(self) -> list[str]:
        """The lines for the log."""
        notes, self._notes = self._notes, []
        return notes
