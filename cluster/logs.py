"""How every process of the cluster writes its log: one line a record, to standard error."""

import logging


def configure() -> None:
    """Set up the root logger."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
