"""A model for the question how throughput grows with workers: it takes its time and no CPU."""

import time
from typing import Any, ClassVar

from ml_model_abc import MLModel

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
        """Take 50 ms."""
        time.sleep(PREDICTION_S)
        return True


class Echo(Sleeper):
    """Returns what it is given."""

    display_name = "Echo"
    qualified_name = "echo"
    description = "Returns what it is given."

    def predict(self, data: Any) -> Any:
        """At once."""
        return data


class EchoOnly:
    """A configuration with that model alone."""

    models: ClassVar[list[dict[str, Any]]] = [{"module_name": __name__, "class_name": "Echo"}]


class SleeperOnly:
    """A configuration with that model alone."""

    models: ClassVar[list[dict[str, Any]]] = [{"module_name": __name__, "class_name": "Sleeper"}]
