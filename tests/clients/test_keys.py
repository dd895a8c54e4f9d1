"""The keys of a client: where they come from, and what is refused. `integration/test_keys.py` connects with them."""

import os
from pathlib import Path

import pytest
import zmq.auth
from zerorpc_cluster import Keys, Options
from zmq.utils import z85

from zmtp.curve import CurveClient


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """A client's secret key file, and a server's public one."""
    own = zmq.auth.create_certificates(tmp_path, "client")[1]
    return str(own), str(zmq.auth.create_certificates(tmp_path, "server")[0])


def test_keys_are_read_from_files_or_given_as_text(files: tuple[str, str]) -> None:
    (_, secret), (server, _) = (zmq.auth.load_certificate(file) for file in files)
    assert secret is not None
    for keys in (Keys.read(*files), Keys(secret.decode(), server.decode())):
        mechanism = Options(keys=keys).mechanism()
        assert isinstance(mechanism, CurveClient)
        assert mechanism.peer_key == z85.decode(server)


def test_keys_are_not_shown(files: tuple[str, str]) -> None:
    shown = repr(Options(keys=Keys.read(*files)))
    for key in (key for file in files for key in zmq.auth.load_certificate(file) if key is not None):
        assert key.decode() not in shown
        assert repr(z85.decode(key)) not in shown


def test_what_is_no_key_is_refused(files: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a key has 40 characters of Z85; this text has 5"):
        Keys("short", "a" * 40)
    with pytest.raises(ValueError, match=r"nowhere: it cannot be read: No such file or directory"):
        Keys.read(os.fspath(tmp_path / "nowhere"), files[1])
    with pytest.raises(ValueError, match=r"has a public key only: name the file that ends in \.key_secret"):
        Keys.read(files[1], files[1])
