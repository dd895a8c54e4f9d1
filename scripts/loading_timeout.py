"""The one limit that all commands have for models that are being loaded."""

import os
import sys

SETTING = "CLUSTER_LOADING_TIMEOUT_S"
DEFAULT_S = 600.0


def loading_timeout_s() -> float:
    """Return the limit in seconds; a wrong setting ends the command."""
    value = os.environ.get(SETTING)
    if not value:
        return DEFAULT_S
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        sys.exit(f"error: {SETTING}={value!r} is wrong: it should be a number of seconds, more than 0")
    return seconds
