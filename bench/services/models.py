"""Models of the benchmark: one that sleeps, to measure how throughput grows with workers, and others (`bench.work`)."""

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
