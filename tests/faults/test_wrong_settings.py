"""A process with a wrong setting ends within 2 s, with exit code 2 and one sentence, before it binds anything."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import Process, free_port

END_S = 2.0


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def end_of(module: str, settings: dict[str, str], folder: Path) -> tuple[str, float]:
    """Run the process to its end; returns its one sentence, and how long it took in seconds."""
    ports = {
        "broker": {
            "BROKER_FRONTEND": f"tcp://127.0.0.1:{free_port()}",
            "BROKER_BACKEND": f"tcp://127.0.0.1:{free_port()}",
            "BROKER_HTTP": f"127.0.0.1:{free_port()}",
        },
        "worker": {"WORKER_HTTP": f"127.0.0.1:{free_port()}"},
    }
    process = Process(module, {**ports[module], **settings}, folder / "log")
    started_s = time.monotonic()
    try:
        code = process.wait(20)
    finally:
        process.end()
    took_s = time.monotonic() - started_s
    assert code == 2, process.output()
    errors = [line for line in process.output().splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, process.output()
    assert "Traceback" not in process.output()
    return errors[0], took_s


@pytest.mark.fault(39)
@pytest.mark.parametrize(
    ("module", "settings", "says"),
    [
        ("broker", {"BROKER_FRONTEND": "tcp://127.0.0.1:99999"}, ["BROKER_FRONTEND", "99999", "1 to 65535"]),
        ("broker", {"BROKER_DRAIN_TIMEOUT_S": "long"}, ["BROKER_DRAIN_TIMEOUT_S", "'long'", "number"]),
        ("broker", {"BROKER_FRONTEND": "tcp://203.0.113.7:4242"}, ["BROKER_FRONTEND", "address of this machine"]),
        ("broker", {"BROKER_TYPO": "1"}, ["BROKER_TYPO", "did you mean"]),
        ("broker", {"LOG_FORMAT": "xml"}, ["LOG_FORMAT", "'xml'", "text or json"]),
        ("broker", {"BROKER_ADMIN": "tcp://0.0.0.0:4244"}, ["BROKER_ADMIN", "127.0.0.1", "can run code"]),
        ("broker", {"BROKER_ADMIN": f"ipc:///tmp/{'x' * 120}"}, ["BROKER_ADMIN", "a shorter path"]),
        ("broker", {"BROKER_ADMIN": "ipc:///proc/nowhere/admin"}, ["BROKER_ADMIN", "cannot be bound"]),
        ("broker", {"BROKER_STATE": "/no/such/folder/state.json"}, ["BROKER_STATE", "a folder that exists"]),
        ("broker", {"BROKER_STATE": "/etc"}, ["BROKER_STATE='/etc' cannot be read", "not a regular file"]),
        ("broker", {"BROKER_CLIENT_KEYS": "/nowhere"}, ["BROKER_CLIENT_KEYS='/nowhere'", "public keys", "keys.py"]),
        ("broker", {"BROKER_CLIENT_KEYS": "*"}, ["BROKER_CLIENT_KEYS needs BROKER_CURVE_SECRET"]),
        ("broker", {"BROKER_CURVE_SECRET": "/nowhere"}, ["BROKER_CURVE_SECRET='/nowhere'", "no port uses it"]),
        (
            "broker",
            {"BROKER_CURVE_SECRET": "/nowhere", "BROKER_CLIENT_KEYS": "*"},
            ["BROKER_CURVE_SECRET='/nowhere' cannot be read", "scripts/keys.py makes one"],
        ),
        ("broker", {"BROKER_ACCESS": "/nowhere"}, ["BROKER_ACCESS='/nowhere' cannot be read"]),
        ("worker", {"WORKER_CURVE_SECRET": "/nowhere"}, ["WORKER_BROKER_KEY is not set"]),
        (
            "worker",
            {"WORKER_CURVE_SECRET": "/etc/hostname", "WORKER_BROKER_KEY": "x"},
            ["WORKER_CURVE_SECRET='/etc/hostname' can be read by other users", "chmod 600"],
        ),
        ("worker", {"WORKER_HTTP": "8421"}, ["WORKER_HTTP", "'8421'", "host:port"]),
        ("worker", {"WORKER_BROKER": "127.0.0.1:4243"}, ["WORKER_BROKER", "tcp://host:port"]),
        ("worker", {"APP_SETTINGS": "Nonsense"}, ["APP_SETTINGS", "'Nonsense'", "ProdConfig"]),
        ("worker", {"APP_SETTINGS": "no.such.module:Config"}, ["APP_SETTINGS", "cannot be imported"]),
        ("worker", {"APP_SETTINGS": "tests.services.configs:NoModule"}, ["no_such_package", "install"]),
        ("worker", {"APP_SETTINGS": "tests.services.configs:NoClass"}, ["'Nothing'", "class_name"]),
        ("worker", {"WORKER_MODELS": "iris"}, ["WORKER_MODELS='iris'", "no model 'iris'", "iris_model"]),
        ("worker", {"APP_SETTINGS": "tests.services.configs:NotAModel"}, ["is not an MLModel"]),
        (
            "worker",
            {"APP_SETTINGS": "tests.services.configs:SameName"},
            ["'echo'", "of the same version 1.0", "rename one model"],
        ),
    ],
)
def test_a_wrong_setting_ends_the_process(
    module: str, settings: dict[str, str], says: list[str], tmp_path: Path
) -> None:
    sentence, _ = end_of(module, settings, tmp_path)
    for words in says:
        assert words in sentence


@pytest.mark.alone
@pytest.mark.fault(39)
@pytest.mark.parametrize(
    ("module", "settings"),
    [
        ("broker", {"BROKER_TYPO": "1"}),
        ("broker", {"BROKER_FRONTEND": "tcp://203.0.113.7:4242"}),
        ("worker", {"WORKER_HTTP": "8421"}),
        ("worker", {"APP_SETTINGS": "tests.services.configs:SameName"}),
    ],
)
def test_a_wrong_setting_ends_the_process_within_two_seconds(
    module: str, settings: dict[str, str], tmp_path: Path
) -> None:
    _, took_s = end_of(module, settings, tmp_path)
    assert took_s < END_S


@pytest.mark.fault(39)
@pytest.mark.parametrize("setting", ["BROKER_FRONTEND", "BROKER_BACKEND", "BROKER_HTTP", "WORKER_HTTP"])
def test_a_port_in_use_ends_the_process(setting: str, taken: int, tmp_path: Path) -> None:
    address = f"127.0.0.1:{taken}" if setting.endswith("HTTP") else f"tcp://127.0.0.1:{taken}"
    sentence, _ = end_of(setting.partition("_")[0].lower(), {setting: address}, tmp_path)
    assert (
        sentence
        == f"error: {setting}={address!r} is taken: another process listens there; stop it or choose another port"
    )
