"""What is to be sent, and noted in the log, since it was last taken out. Pure: the message loop does the sending."""

ToClient = tuple[bytes, bytes]
"""(identity, event)"""

ToWorker = tuple[bytes, list[bytes]]
"""(identity, frames), the first frame being the kind."""


class Outbox:
    """Collects messages; each is handed out once."""

    def __init__(self) -> None:
        self._to_clients: list[ToClient] = []
        self._to_workers: list[ToWorker] = []
        self._to_admins: list[ToClient] = []
        self._notes: list[str] = []

    def to_admin(self, identity: bytes, event: bytes) -> None:
        """An event for an administrator."""
        self._to_admins.append((identity, event))

    def to_client(self, identity: bytes, event: bytes) -> None:
        """An event for a client."""
        self._to_clients.append((identity, event))

    def to_worker(self, identity: bytes, *frames: bytes) -> None:
        """A message for a worker, kind first."""
        self._to_workers.append((identity, list(frames)))

    def note(self, line: str) -> None:
        """A line for the log."""
        self._notes.append(line)

    def take(self) -> tuple[list[ToClient], list[ToWorker]]:
        """The messages to clients and to workers."""
        taken = self._to_clients, self._to_workers
        self._to_clients, self._to_workers = [], []
        return taken

    def take_admins(self) -> list[ToClient]:
        """The messages to administrators."""
        taken, self._to_admins = self._to_admins, []
        return taken

    def take_notes(self) -> list[str]:
        """The lines for the log."""
        notes, self._notes = self._notes, []
        return notes
