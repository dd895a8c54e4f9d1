"""Prints the table of metrics in docs/operations.md, made from the code: name, kind, labels, meaning."""

from collections.abc import Iterable

from prometheus_client.metrics_core import Metric

from broker.core.core import Core
from broker.core.scheduling.admission import QueueLimits
from broker.core.state.services import Method, Server, ServerRules
from broker.http import metrics
from cluster.wire import protocol
from cluster.wire.descriptions import write_description
from cluster.wire.protocol import ModelDescription, ProcedureDescription, WorkerDescription
from worker.http.metrics import WorkerMetrics
from worker.jobs.counters import WorkerCounters

_ANY_LIMITS = QueueLimits(
    no_worker_grace_s=1, queue_timeout_s=1, queue_calls=1, queue_bytes=1, client_calls=1, client_bytes=1
)
_MODEL = ModelDescription(
    "Model", "model", "A model.", 1, 0, {}, {}, procedures=[ProcedureDescription("model_predict", "", ["x"])]
)
_WORKER = WorkerDescription(
    protocol.VERSION,
    "id",
    "host",
    1,
    "host:8421",
    [_MODEL],
)


def table() -> str:
    """Return the table in Markdown."""
    core = Core(max_message_bytes=1024, limits=_ANY_LIMITS)
    # Only labels with values show: add one worker, one stock server and one bad message.
    core.workers.message(b"worker", [protocol.READY, write_description(_WORKER)], 0.0)
    core.registry.add_server(Server(b"server", "id", "Service", "", 0.0), [Method("add", "", [])], ServerRules(), 0.0)
    core.clients.message(b"client", [b"", b"\xc1"], 0.0)
    counters = WorkerCounters()
    counters.host(_MODEL)
    own = (family for family in WorkerMetrics(counters).registry.collect() if family.name.startswith("zerorpc_"))
    lines = ["| metric | kind | labels | what |", "|---|---|---|---|"]
    return "\n".join([*lines, *_rows(metrics.families(core)), *_rows(own)])


def _rows(families: Iterable[Metric]) -> list[str]:
    return [_row(family) for family in families]


def _row(family: Metric) -> str:
    name = f"{family.name}_total" if family.type == "counter" else family.name
    labels = {label: None for sample in family.samples for label in sample.labels if label != "le"}
    return f"| `{name}` | {family.type} | {', '.join(f'`{label}`' for label in labels)} | {family.documentation} |"


if __name__ == "__main__":
    print(table())
