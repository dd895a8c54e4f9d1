"""A cluster with keys, and clients that have some, the wrong ones or none."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import zerorpc
import zmq

from scripts import keys
from scripts.zerorpc_curve import CurveContext
from tests.processes import Cluster, wait_until


class Keyed:
    """A folder of keys, as `scripts/keys.py` makes it, and a cluster that uses them.

    Attributes:
        folder: of the keys.
        cluster: whose clients and workers need keys.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "keys"
        keys.new(self.folder, keys.BROKER, "")
        self.cluster = Cluster(folder)
        self._clients: list[zerorpc.Client] = []
        self._contexts: list[zerorpc.Context] = []

    def new(self, kind: str, name: str) -> tuple[str, str]:
        """Make a key; return the files for its owner: the secret key, and the broker's public one."""
        _, secret = keys.new(self.folder, kind, name)
        return str(secret), self.broker_key

    def admit(self, kind: str, name: str) -> tuple[str, str]:
        """Make a key, as `new` does, and wait until the broker accepts it."""
        files = self.new(kind, name)
        wait_until(lambda: f"new: {name}" in self.broker_log(), 5, "the broker has read the key")
        return files

    @property
    def broker_key(self) -> str:
        return str(keys.public_file(self.folder, keys.BROKER, ""))

    def revoke(self, kind: str, name: str) -> None:
        keys.public_file(self.folder, kind, name).unlink()

    def start_broker(self, **settings: str) -> None:
        for of in keys.KINDS.values():
            (self.folder / of).mkdir(exist_ok=True)
        required = {
            "BROKER_CURVE_SECRET": str(keys.secret_file(self.folder, keys.BROKER, "")),
            "BROKER_CLIENT_KEYS": str(self.folder / "clients"),
            "BROKER_WORKER_KEYS": str(self.folder / "workers"),
        }
        self.cluster.start_broker(None, (), **{**required, **settings})

    def start_worker(self, config: str, files: Sequence[str]) -> Any:
        secret, broker = files
        return self.cluster.start_worker(config, WORKER_CURVE_SECRET=secret, WORKER_BROKER_KEY=broker)

    def client(self, files: Sequence[str] | None, **options: Any) -> Any:
        """A stock client with these keys, or without any."""
        context = CurveContext(*files) if files else zerorpc.Context()
        made = zerorpc.Client(context=context, **{"timeout": 30, **options})
        made._events.setsockopt(zmq.LINGER, 0)  # a call that the broker refuses must not keep the context
        made.connect(self.cluster.frontend)
        self._clients.append(made)
        self._contexts.append(context)
        return made

    def broker_log(self) -> str:
        return self.cluster.broker.output()

    def close(self) -> None:
        for client in self._clients:
            client.close()
        for context in self._contexts:
            context.destroy(linger=0)
        self.cluster.close()


@contextmanager
def keyed_cluster(folder: Path, *configs: str, **settings: str) -> Iterator[Keyed]:
    """Start a broker with keys, and one worker for each configuration, with the key `w0`, `w1`, ..."""
    made = Keyed(folder)
    try:
        made.start_broker(**settings)
        for number, config in enumerate(configs):
            made.start_worker(config, made.new("worker", f"w{number}"))
        made.cluster.wait_for_workers(len(configs))
        yield made
    except BaseException:
        for process in made.cluster.processes:
            print(f"==> {process.log.name} <==\n{process.output()}")  # noqa: T201 - pytest shows it with the failure
        raise
    finally:
        made.close()
