"""The messages and log lines that the core has produced since the message loop last took them."""

from collections.abc import Mapping
from typing import NamedTuple

ToClient = tuple[bytes, bytes]
"""(identity, event)"""

ToWorker = tuple[bytes, list[bytes]]
"""(identity, frames); the first frame is the kind."""


MAX_HEAD_BYTES = 512
"""The id of a call stands within these bytes of an event for a client."""


class Note(NamedTuple):
    """A line for the log, and its fields for the JSON log."""

    text: str
    fields: Mapping[str, str]


class Outbox:
    """Collects messages and log lines; each is handed out once."""

    def __init__(self) -> None:
        self._to_clients: list[ToClient] = []
        self._to_workers: list[ToWorker] = []
        self._to_admins: list[ToClient] = []
        self._notes: list[Note] = []

    def to_admin(self, identity: bytes, event: bytes) -> None:
        """Add an event for an administrator."""
        self._to_admins.append((identity, event))

    def to_client(self, identity: bytes, event: bytes) -> None:
        """Add an event for a client."""
        self._to_clients.append((identity, event))

    def has_for_client(self, identity: bytes, message_id: bytes) -> bool:
        """Whether an event for this call of a client waits to be sent. Slow; for what is rare."""
        return any(to == identity and message_id in event[:MAX_HEAD_BYTES] for to, event in self._to_clients)

    def to_worker(self, identity: bytes, *frames: bytes) -> None:
        """Add a message for a worker; the first frame is its kind."""
        self._to_workers.append((identity, list(frames)))

    def note(self, text: str, **fields: str) -> None:
        """Add a line for the log.

        Args:
            text: of the line.
            fields: what the JSON log shows by itself, such as the client.
        """
        self._notes.append(Note(text, fields))

    def take(self) -> tuple[list[ToClient], list[ToWorker]]:
        """Remove and return the messages to clients and to workers."""
        taken = self._to_clients, self._to_workers
        self._to_clients, self._to_workers = [], []
        return taken

    def take_admins(self) -> list[ToClient]:
        """Remove and return the messages to administrators."""
        taken, self._to_admins = self._to_admins, []
        return taken

    def take_notes(self) -> list[Note]:
        """Remove and return the lines for the log."""
        notes, self._notes = self._notes, []
        return notes
