"""The models that a worker hosts. To add a model, install its package and add an entry to `Config.models`.

The environment variable `APP_SETTINGS` names the class that is used, `ProdConfig` by default; `module:Class` names a
class outside this file. An entry has `module_name` and `class_name`, and may have these settings:

    slots           how many calls or batches of the model run at once in one worker (default 1)
    retry           whether a call may run once more on another worker after its worker has died (default True)
    timeout_s       how long a call may run, in seconds (default 300); a worker that is stuck in one is replaced
    max_batch_size  most calls of a batch (default 128 for a model with predict_batch, else 1)
    batch_wait_ms   how long a call may wait for others to make a batch with, in milliseconds (default 0)
    batches_ahead   how many batches may wait at a worker while it runs others (default 0)
    max_streams     how many streams of the model may be open at one worker (default 1000)
    threads         threads of numeric libraries, such as OpenMP (default 1); a worker takes the largest of its models
"""

from typing import Any, ClassVar


class Config:
    """The models of all environments."""

    models: ClassVar[list[dict[str, Any]]] = [
        {"module_name": "iris_model.iris_predict", "class_name": "IrisModel"},
    ]


class ProdConfig(Config):
    """Production."""


class BetaConfig(Config):
    """A stage before production."""


class TestConfig(Config):
    """Tests."""


class DevConfig(Config):
    """A developer's machine."""
