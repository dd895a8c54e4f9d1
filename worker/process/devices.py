"""Which GPU a worker uses. Frameworks see only the devices that these variables name, and read them once."""

import os
from collections.abc import Sequence

VARIABLES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
"""What CUDA and ROCm read."""


def choose(devices: Sequence[str], port: int) -> None:
    """Let this process see one of the devices. Call it before any model's module is imported.

    Args:
        devices: of this machine, as CUDA names them. Without any, nothing changes.
        port: of the worker's HTTP address. Workers on consecutive ports take the devices in turn.
    """
    if not devices:
        return
    for name in VARIABLES:
        os.environ[name] = devices[port % len(devices)]
