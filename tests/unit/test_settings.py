"""Settings are checked; the error for a wrong one names the setting, its value and a right value."""

import os
import re
from pathlib import Path

import pytest

from broker.settings import BrokerSettings
from cluster.runtime.settings import ConfigError, load_settings
from worker.settings import WorkerSettings

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("BROKER_", "WORKER_"))]:
        monkeypatch.delenv(name)


def test_every_setting_has_its_default() -> None:
    broker, worker = load_settings(BrokerSettings), load_settings(WorkerSettings)
    assert (broker.frontend, broker.backend) == ("tcp://127.0.0.1:4242", "tcp://127.0.0.1:4243")
    assert broker.http == "127.0.0.1:8420"
    assert (worker.broker, worker.http) == ("tcp://127.0.0.1:4243", "127.0.0.1:8421")
    assert broker.max_message_bytes == 16 * 1024 * 1024


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("BROKER_FRONTEND", "localhost", "tcp://host:port"),
        ("BROKER_FRONTEND", "tcp://127.0.0.1", "tcp://host:port"),
        ("BROKER_FRONTEND", "tcp://127.0.0.1:0", "1 to 65535"),
        ("BROKER_FRONTEND", "tcp://127.0.0.1:\uff14\uff17\uff14\uff12", "tcp://host:port"),  # digits, but not of ASCII
        ("BROKER_BACKEND", "tcp://127.0.0.1:65536", "1 to 65535"),
        ("BROKER_HTTP", "8420", "host:port"),
        ("BROKER_HTTP", "127.0.0.1:http", "host:port"),
        ("BROKER_MAX_MESSAGE_BYTES", "16 MiB", "a whole number"),
        ("BROKER_MAX_MESSAGE_BYTES", "1", "1024 or more"),
        ("BROKER_NO_WORKER_GRACE_S", "soon", "number"),
        ("BROKER_DRAIN_TIMEOUT_S", "-1", "0 or more"),
        ("BROKER_ADMIN", "tcp://0.0.0.0:4244", "tcp://127.0.0.1:port: anyone who can reach it can run code"),
        ("BROKER_ADMIN", "tcp://127.0.0.1", "tcp://127.0.0.1:port"),
        ("BROKER_ADMIN", "ipc://", "a ZeroMQ endpoint"),
        ("BROKER_BACKEND", "ipc://@workers", "ipc:///path"),
        ("WORKER_BROKER", "tcp://", "tcp://host:port"),
        ("WORKER_METRICS_ADDRESS", "here", "host:port"),
        ("WORKER_EXPOSE_TRACEBACKS", "perhaps", "true or false"),
    ],
)
def test_a_wrong_value_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str, wanted: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as raised:
        load_settings(BrokerSettings if name.startswith("BROKER_") else WorkerSettings)
    sentence = str(raised.value)
    assert name in sentence
    assert repr(value) in sentence
    assert wanted in sentence
    assert "\n" not in sentence


def test_an_unknown_setting_is_refused_with_the_nearest_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_FRONTED", "x")
    with pytest.raises(ConfigError, match="BROKER_FRONTED='x' is not a setting; did you mean BROKER_FRONTEND"):
        load_settings(BrokerSettings)


@pytest.mark.parametrize(
    "name", ["BROKER_PORT", "BROKER_SERVICE_HOST", "BROKER_PORT_4242_TCP_ADDR", "BROKER_SERVICE_PORT_RPC"]
)
def test_variables_of_a_container_platform_are_ignored(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "tcp://10.0.0.1:4242")
    load_settings(BrokerSettings)


def test_a_broker_needs_no_admin_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_ADMIN", "")
    assert load_settings(BrokerSettings).admin == ""


def readme_defaults() -> dict[str, str]:
    """Return the default of each setting of a process, as the table of the README shows it."""
    readme = (REPOSITORY / "README.md").read_text()
    return dict(re.findall(r"^\| `((?:BROKER|WORKER)_[A-Z_]+)` \| (.*?) \|", readme, re.MULTILINE))


def code_defaults() -> dict[str, object]:
    """Return the default of each setting of a process by the name of its variable."""
    return {
        f"{settings.model_config['env_prefix']}{name.upper()}": field.default
        for settings in (BrokerSettings, WorkerSettings)
        for name, field in settings.model_fields.items()
    }


def shown(default: object) -> str:
    """Return a default as a variable's value."""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, float):
        return f"{default:g}"
    return "" if default is None else str(default)


def test_the_readme_names_every_setting_and_no_other() -> None:
    assert readme_defaults().keys() == code_defaults().keys()


@pytest.mark.parametrize("name", sorted(code_defaults()))
def test_the_readme_shows_the_default(name: str) -> None:
    in_readme, default = readme_defaults()[name], shown(code_defaults()[name])
    if default:
        assert in_readme.replace("<this folder>", str(REPOSITORY)) == f"`{default}`"
    else:
        assert in_readme.startswith(("none", "same as"))


def test_the_env_example_shows_the_defaults() -> None:
    """A default in docker-compose.yml replaces the one in the code."""
    composed = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", (REPOSITORY / "docker-compose.yml").read_text()))
    example = re.findall(r"^#(\w+)=(\S*)", (REPOSITORY / ".env.example").read_text(), re.MULTILINE)
    outside = {"APP_SETTINGS": "ProdConfig", "LOG_FORMAT": "text", "OMP_NUM_THREADS": ""}
    defaults = {**{name: shown(default) for name, default in code_defaults().items()}, **outside, **composed}
    assert example
    assert {name: value for name, value in example if defaults[name] != value} == {}
