"""The workloads: what every system is asked to do, and with how many calls in flight."""

import base64
import json
from dataclasses import dataclass
from typing import Any

FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
SPECIES = "setosa"

_ROWS = 100
_TENSOR_FLOATS = 1 << 18
_ITEMS = 50

JSON_TYPE = "application/json"
BYTES_TYPE = "application/octet-stream"


@dataclass(frozen=True)
class Workload:
    """What to ask a system.

    Attributes:
        key: its name in results, on the command line, and in BENCH_MODEL for the other model servers.
        title: its name in the document.
        in_flight: numbers of calls in flight.
        procedure: what to call of a ZeroRPC service.
        argument: its argument.
        config: APP_SETTINGS of this cluster; empty for the default.
        contains: what a correct answer contains.
        items: items of the answer, if it is a stream; otherwise 0.
    """

    key: str
    title: str
    in_flight: tuple[int, ...]
    procedure: str
    argument: Any
    config: str = ""
    contains: str = SPECIES
    items: int = 0

    def http_body(self, family: str) -> tuple[bytes, str]:
        """Return the body of a request to a model server, and its content type."""
        if isinstance(self.argument, bytes):
            if family in ("mosec", "fastapi", "ray"):
                return self.argument, BYTES_TYPE
            text = base64.b64encode(self.argument).decode()  # the others take JSON by default
            tensor = {"name": "data", "shape": [1, 1], "datatype": "BYTES", "data": [text]}
            body: Any = {"data": text} if family != "mlserver" else {"inputs": [tensor]}
            return json.dumps(body).encode(), JSON_TYPE
        rows = self.argument if isinstance(self.argument, list) else [self.argument]
        body = self.argument
        if family == "bentoml":
            body = {"rows": rows}
        elif family == "mlserver":
            measurements = [value for row in rows for value in (row.values() if isinstance(row, dict) else [0.0])]
            shape = [len(rows), len(measurements) // len(rows)]
            body = {"inputs": [{"name": "measurements", "shape": shape, "datatype": "FP64", "data": measurements}]}
        return json.dumps(body).encode(), JSON_TYPE


_MODELS = "bench.services.models"

ROW = Workload("row", "one row of the iris model", (1, 4, 16, 64, 256), "iris_model_predict", FLOWER)
ROWS = Workload("rows", f"{_ROWS} rows in one call", (1, 4, 16, 64), "iris_model_predict_batch", [FLOWER] * _ROWS)
TENSOR = Workload(
    "tensor",
    "a tensor of 1 MiB, of which the model returns the mean",
    (1, 4, 16),
    "tensor_predict",
    bytes(4 * _TENSOR_FLOATS),
    f"{_MODELS}:TensorOnly",
    "",
)
STREAM = Workload(
    "stream",
    f"streams of {_ITEMS} items",
    (1, 4, 16, 64),
    "echo_predict_stream",
    [7] * _ITEMS,
    f"{_MODELS}:EchoOnly",
    "",
    _ITEMS,
)
SLOW = Workload("slow", "a model that computes 5 ms", (1, 4, 16, 64), "slow_predict", 0, f"{_MODELS}:SlowOnly", "done")

ALL = (ROW, ROWS, TENSOR, STREAM, SLOW)

KINDS = tuple(
    Workload(name, f"the model {name}", (1, 4, 16, 64), f"{name}_predict", 0, f"{_MODELS}:KindsOnly", "")
    for name in ("constant", "linear", "slow_batch", "mixed")
)
"""Four kinds of models with batches, only for this cluster: how calls should be divided over its workers differs."""
