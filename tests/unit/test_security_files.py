"""The files that keys and access rules come from: what is read, and what is refused with one sentence."""

import os
from pathlib import Path

import pytest
import zmq
import zmq.auth
from zmq.utils import z85

from broker.core.state.access import AccessRules
from broker.io.access_file import read_access
from broker.io.file_watch import signature
from broker.io.keyring import ANY_KEY, Keyring
from broker.io.security import Security, exposed
from broker.settings import BrokerSettings
from cluster.runtime.curve_files import read_public, read_secret
from cluster.runtime.settings import ConfigError
from tests.processes import wait_until
from zmtp.certificates import CertificateError, decode_key, read_certificate


def make(folder: Path, name: str) -> tuple[Path, Path]:
    """A public and a secret key file, as pyzmq writes them."""
    before = os.umask(0o077)
    try:
        public, secret = zmq.auth.create_certificates(folder, name)
    finally:
        os.umask(before)
    return Path(public), Path(secret)


def test_key_files_of_pyzmq_are_read_as_pyzmq_reads_them(tmp_path: Path) -> None:
    for number in range(20):
        public, secret = make(tmp_path, f"one-{number}")
        for file in (public, secret):
            expected = [None if key is None else z85.decode(key) for key in zmq.auth.load_certificate(file)]
            assert list(read_certificate(file)) == expected


def test_keys_of_random_bytes_are_decoded_as_pyzmq_decodes_them() -> None:
    for _ in range(200):
        key = os.urandom(32)
        assert decode_key(z85.encode(key).decode()) == key


@pytest.mark.parametrize("text", ["", "a" * 39, "a" * 41, "~" * 40, "#" * 40, "é" * 40])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(CertificateError):
        decode_key(text)


def test_a_secret_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    _, secret = make(tmp_path, "broker")
    assert read_secret("S", str(secret)).secret == z85.decode(zmq.auth.load_certificate(secret)[1] or b"")
    for mode in (0o640, 0o604, 0o644, 0o660):
        secret.chmod(mode)
        with pytest.raises(
            ConfigError, match=rf"S='{secret}' can be read by other users \(mode {mode:04o}\): chmod 600"
        ):
            read_secret("S", str(secret))


def test_a_file_that_is_no_secret_key_is_refused(tmp_path: Path) -> None:
    public, secret = make(tmp_path, "broker")
    with pytest.raises(
        ConfigError, match=r"S='.*missing' cannot be read \(No such file or directory\): scripts/keys.py"
    ):
        read_secret("S", str(tmp_path / "missing"))
    public.chmod(0o600)
    with pytest.raises(ConfigError, match=r"has a public key only: name the file that ends in \.key_secret"):
        read_secret("S", str(public))
    other, _ = make(tmp_path, "other")
    mixed = secret.read_text().replace(_key_line(secret), _key_line(other))
    secret.write_text(mixed)
    with pytest.raises(ConfigError, match="has a public key that does not belong to its secret key"):
        read_secret("S", str(secret))
    secret.write_text("not a key")
    with pytest.raises(ConfigError, match=r'is no key file: it has no line public-key = "..."'):
        read_secret("S", str(secret))


def _key_line(file: Path) -> str:
    return next(line for line in file.read_text().splitlines() if "public-key" in line)


def test_a_public_key_is_a_file_or_the_key_itself(tmp_path: Path) -> None:
    public, _ = make(tmp_path, "broker")
    key, _ = zmq.auth.load_certificate(public)
    assert read_public("K", str(public)) == read_public("K", key.decode()) == z85.decode(key)
    with pytest.raises(ConfigError, match="K='nothing' is neither a public key of 40 characters nor a file with one"):
        read_public("K", "nothing")


def test_a_keyring_knows_the_owners_of_its_keys(tmp_path: Path) -> None:
    key = read_certificate(make(tmp_path, "billing")[0]).public
    ring = Keyring("K", str(tmp_path))
    assert ring.name_of(key) == "billing"
    assert ring.names == {"billing"}
    assert ring.name_of(bytes(32)) is None
    (tmp_path / "billing.key").unlink()
    ring.read()
    assert ring.name_of(key) is None
    assert Keyring("K", ANY_KEY).name_of(key) == "anonymous"


def test_a_folder_of_keys_that_cannot_be_right_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConfigError, match=r"K='.*missing' is no folder: it should be one with the public keys"):
        Keyring("K", str(tmp_path / "missing"))
    make(tmp_path, "good")
    ring = Keyring("K", str(tmp_path))
    (tmp_path / "bad.key").write_text("nonsense")
    with pytest.raises(ConfigError, match=r"bad.key is no key file: .*: remove it, or make it anew"):
        Keyring("K", str(tmp_path))
    (tmp_path / "copy.key").write_text((tmp_path / "good.key").read_text())
    ring.read()
    assert ring.names == {"copy"}, "the first in the order of the alphabet"
    assert "bad.key is no key file" in caplog.text
    assert "good.key has the same key as copy.key" in caplog.text


def test_a_folder_of_keys_that_is_gone_revokes_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "keys"
    folder.mkdir()
    make(folder, "billing")
    ring = Keyring("K", str(folder))
    folder.rename(tmp_path / "elsewhere")
    ring.read()
    assert ring.names == {"billing"}
    assert "is gone; the keys that were in it stay accepted" in caplog.text


def test_a_change_of_a_file_or_a_folder_is_seen(tmp_path: Path) -> None:
    folder, file = tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    file.write_text("1")
    seen = [signature(folder), signature(file)]

    def has_changed(number: int, path: Path) -> bool:
        before, seen[number] = seen[number], signature(path)
        return before != seen[number]

    assert not has_changed(0, folder)
    assert not has_changed(1, file)
    (folder / "new").write_text("")
    assert has_changed(0, folder)
    (folder / "new").write_text("longer")
    assert has_changed(0, folder)
    (folder / "new").rename(folder / "other")
    assert has_changed(0, folder)
    (tmp_path / "next").write_text("1")
    (tmp_path / "next").rename(file)
    assert has_changed(1, file), "a file of the same content that takes its place"
    file.unlink()
    assert has_changed(1, file)
    folder.rename(tmp_path / "gone")
    assert has_changed(0, folder)


ACCESS = """
[default]
allow = ["get_*"]

[clients.billing]
allow = ["iris_model", "fraud_*"]
calls = 100
waiting_calls = 20

[clients.ops]

[workers.gpu]
models = ["iris_model"]
"""


def test_an_access_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "access.toml"
    file.write_text(ACCESS)
    rules = read_access(str(file))
    billing = rules.clients["billing"]
    assert billing.allowed is not None
    assert billing.allowed.texts == ("iris_model", "fraud_*")
    assert (billing.calls, billing.waiting_calls) == (100, 20)
    assert rules.clients["ops"].allowed is None
    assert rules.default.allowed is not None
    assert rules.workers["gpu"].match("iris_model")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[clients.billing]\nallow = 'iris'", "clients.billing.allow='iris' is wrong: it should be a valid list"),
        ("[clients.billing]\nallow = [1]", "clients.billing.allow.0=1 is wrong: it should be a string"),
        ("[clients.billing]\ncalls = 0", "clients.billing.calls=0 is wrong: it should be 1 or more"),
        ("[clients.billing]\ncalls = '5'", "clients.billing.calls='5' is wrong: it should be a whole number"),
        ("[clients.billing]\nalow = []", "clients.billing.alow is not known here: remove it"),
        ("[client.billing]", "client is not known here: remove it"),
        ("[clients.billing", "is not TOML: "),
    ],
)
def test_an_access_file_that_is_wrong_is_refused_with_the_place(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "access.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_access(str(file))
    assert str(caught.value).startswith(f"BROKER_ACCESS={str(file)!r}")
    assert says in str(caught.value)


def settings(**values: str) -> BrokerSettings:
    return BrokerSettings.model_validate(values)


def test_settings_of_keys_must_fit_together(tmp_path: Path) -> None:
    _, secret = make(tmp_path, "broker")
    access = tmp_path / "access.toml"
    access.write_text("[clients.billing]\nallow = []")
    with pytest.raises(ConfigError, match="BROKER_CLIENT_KEYS needs BROKER_CURVE_SECRET"):
        Security(settings(client_keys=str(tmp_path)))
    with pytest.raises(ConfigError, match="is set, and no port uses it: set BROKER_CLIENT_KEYS"):
        Security(settings(curve_secret=str(secret)))
    with pytest.raises(
        ConfigError, match=r"clients.billing needs BROKER_CLIENT_KEYS, because clients without keys are"
    ):
        Security(settings(access=str(access)))
    with pytest.raises(ConfigError, match="BROKER_ADMIN_KEYS is set, and BROKER_ADMIN is empty"):
        Security(settings(curve_secret=str(secret), admin_keys="*", admin=""))
    access.write_text("[workers.gpu]\nmodels = []")
    with pytest.raises(ConfigError, match="workers needs BROKER_WORKER_KEYS"):
        Security(settings(access=str(access)))
    access.write_text("[clients.anonymous]\nallow = []")
    assert not Security(settings(access=str(access))).is_keyed("clients")


class Applied:
    """What a loop is told of changes."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.rules: list[AccessRules | None] = []

    def apply_keys(self, socket: str, ring: Keyring) -> None:
        self.keys.append(socket)

    def apply_access(self, rules: AccessRules | None) -> None:
        self.rules.append(rules)


def test_a_change_after_the_files_were_read_and_before_the_watch_began_is_seen(tmp_path: Path) -> None:
    _, secret = make(tmp_path, "broker")
    folder, access = tmp_path / "clients", tmp_path / "access.toml"
    folder.mkdir()
    access.write_text("")
    security = Security(settings(curve_secret=str(secret), client_keys=str(folder), access=str(access)))
    make(folder, "billing")
    access.write_text("[clients.billing]\nallow = []\n")
    applied = Applied()
    security.watch(applied)
    try:
        wait_until(lambda: applied.keys and applied.rules, 3, "both changes are seen")
        assert applied.keys == ["clients"]
        assert applied.rules[0] is not None
        assert set(applied.rules[0].clients) == {"billing"}
    finally:
        security.stop()


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:1", "tcp://[::1]:1", "tcp://localhost:1", "ipc:///tmp/x"])
def test_an_address_of_this_machine_is_not_exposed(endpoint: str) -> None:
    assert exposed({"BROKER_FRONTEND": endpoint}) == []


@pytest.mark.parametrize("endpoint", ["tcp://0.0.0.0:1", "tcp://[::]:1", "tcp://192.0.2.1:1", "tcp://example.org:1"])
def test_an_address_that_others_may_reach_is_exposed(endpoint: str) -> None:
    assert exposed({"BROKER_FRONTEND": endpoint}) == ["BROKER_FRONTEND"]
