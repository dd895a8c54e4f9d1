"""Which models a worker hosts. Add a model: install its package, add an entry to `Config.models`.

The environment variable `APP_SETTINGS` names the class that is used, `ProdConfig` by default; `module:Class` names a
class outside this file. An entry has `module_name` and `class_name`, and may have

    slots           how many calls or batches of the model run at one time in one worker (default 1)
    retry           whether a call whose worker died may run once more on another (default True)
    timeout_s       how long a call may run, in seconds (default 300); a worker that is stuck in one is replaced
    max_batch_size  how many waiting calls go to a worker together (default 64 for a model with predict_batch, else 1)
    batch_wait_ms   how long a call may wait for others to go with, in milliseconds (default 0: it never does)
    batches_ahead   how many batches may wait at a worker while it runs others (default 0)
    max_streams     how many streams of the model a worker serves beside each other (default 1000)
"""

from typing import Any, ClassVar


class Config:
    """What all environments have in common."""

    models: ClassVar[list[dict[str, Any]]] = [
        {"module_name": "iris_model.iris_predict", "class_name": "IrisModel"},
    ]


class ProdConfig(Config):
    """Production."""


class BetaConfig(Config):
    """Before production."""


class TestConfig(Config):
    """Tests."""


class DevConfig(Config):
    """A developer's machine."""
