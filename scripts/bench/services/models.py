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


class SleeperOnly:
    """A configuration with that model alone."""

    models: ClassVar[list[dict[str, Any]]] = [{"module_name": __name__, "class_name": "Sleeper"}]
