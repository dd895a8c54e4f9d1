"""`SECURE=1`: keys for a cluster on one machine, made at the first start, and the settings that use them."""

import os
from contextlib import suppress

import psutil

from scripts import supervision
from scripts.cluster_settings import RUN
from scripts.keys import BROKER, KINDS, new, public_file, secret_file
from scripts.zerorpc_curve import SECRET_VARIABLE, SERVER_VARIABLE

KEYS = RUN / "keys"
"""The folder of the keys."""

OWN_NAME = "local"
"""The name of the keys of this machine's worker and of the commands of the Makefile."""


def is_in_use() -> bool:
    """Whether the broker that runs here was started with `SECURE=1`."""
    for one in supervision.processes():
        if one["group"] == "broker" and one["pid"]:
            with suppress(psutil.Error):
                return psutil.Process(one["pid"]).environ().get("BROKER_CLIENT_KEYS") == str(KEYS / KINDS["client"])
    return False


def use_keys() -> None:
    """Have this process, and all that it starts, use keys; a setting in the environment goes first."""
    for kind, name in ((BROKER, BROKER), ("client", OWN_NAME), ("worker", OWN_NAME)):
        if not secret_file(KEYS, kind, name).exists():
            print(f"new keys:   {', '.join(str(file) for file in new(KEYS, kind, name))}")
    settings = {
        "BROKER_CURVE_SECRET": secret_file(KEYS, BROKER, BROKER),
        "BROKER_CLIENT_KEYS": KEYS / KINDS["client"],
        "BROKER_WORKER_KEYS": KEYS / KINDS["worker"],
        "WORKER_CURVE_SECRET": secret_file(KEYS, "worker", OWN_NAME),
        "WORKER_BROKER_KEY": public_file(KEYS, BROKER, BROKER),
        SECRET_VARIABLE: secret_file(KEYS, "client", OWN_NAME),
        SERVER_VARIABLE: public_file(KEYS, BROKER, BROKER),
    }
    for name, value in settings.items():
        os.environ.setdefault(name, str(value))
