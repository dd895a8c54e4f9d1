"""Models of the benchmark: one that sleeps, to measure how throughput grows with workers, and others (`bench.work`)."""

import random
import time
from typing import Any, ClassVar

from ml_model_abc import MLModel

from bench import work

PREDICTION_S = 0.05


class Sleeper(MLModel):
    """Sleeps, and returns true."""

    display_name = "Sleeper"
    qualified_name = "sleeper"
    description = "Sleeps."
    major_version = 1
    minor_version = 0
    input_schema = None
    output_schema = None

    def __init__(self) -> None:
        pass

    def predict(self, data: Any) -> bool:
        """Sleep for `PREDICTION_S`."""
        time.sleep(PREDICTION_S)
        return True


class Echo(Sleeper):
    """Returns its input."""

    display_name = "Echo"
    qualified_name = "echo"
    description = "Returns its input."

    def predict(self, data: Any) -> Any:
        """Return the input."""
        return data


class Tensor(Sleeper):
    """Returns the mean of a tensor."""

    display_name = "Tensor"
    qualified_name = "tensor"
    description = "Returns the mean of a tensor of 32-bit floats."

    def predict(self, data: Any) -> Any:
        """Return the mean."""
        return work.mean(data)


class Slow(Sleeper):
    """Computes for some milliseconds."""

    display_name = "Slow"
    qualified_name = "slow"
    description = "Computes for some 5 ms."

    def predict(self, data: Any) -> Any:
        """Compute."""
        return work.compute()


class Batched(Sleeper):
    """A model of batches, whose costs the derived classes set.

    Attributes:
        batch_ms: what a batch takes, whatever is in it, in milliseconds of computing.
        row_ms: what each row takes beside it; of each row, one of these at random.
    """

    batch_ms: ClassVar[float]
    row_ms: ClassVar[tuple[float, ...]]

    def __init__(self) -> None:
        self._chance = random.Random(1)

    def predict(self, data: Any) -> Any:
        """Compute for one row."""
        return self.predict_batch([data])[0]

    def predict_batch(self, rows: list[Any]) -> list[Any]:
        """Compute for some rows."""
        work.compute(self.batch_ms + sum(self._chance.choice(self.row_ms) for _ in rows))
        return rows


class Constant(Batched):
    """A batch takes the same time whatever is in it."""

    qualified_name = display_name = "constant"
    batch_ms, row_ms = 1.0, (0.0,)


class Linear(Batched):
    """Each row takes its time."""

    qualified_name = display_name = "linear"
    batch_ms, row_ms = 0.0, (1.0,)


class SlowBatch(Batched):
    """A batch takes long, whatever is in it."""

    qualified_name = display_name = "slow_batch"
    batch_ms, row_ms = 20.0, (0.0,)


class Mixed(Batched):
    """Few rows take long."""

    qualified_name = display_name = "mixed"
    batch_ms, row_ms = 0.2, (0.1, 0.1, 0.1, 5.0)


class EchoOnly:
    """A configuration with only `Echo`."""

    models: ClassVar[list[dict[str, Any]]] = [{"module_name": __name__, "class_name": "Echo"}]


class SleeperOnly:
    """A configuration with only `Sleeper`."""

    models: ClassVar[list[dict[str, Any]]] = [{"module_name": __name__, "class_name": "Sleeper"}]


class TensorOnly:
    """A configuration with only `Tensor`."""

    models: ClassVar[list[dict[str, Any]]] = [{"module_name": __name__, "class_name": "Tensor"}]


class SlowOnly:
    """A configuration with only `Slow`."""

    models: ClassVar[list[dict[str, Any]]] = [{"module_name": __name__, "class_name": "Slow"}]


class KindsOnly:
    """A configuration with the four kinds of `Batched`."""

    models: ClassVar[list[dict[str, Any]]] = [
        {"module_name": __name__, "class_name": name} for name in ("Constant", "Linear", "SlowBatch", "Mixed")
    ]
