"""`scripts/keys.py` as a user runs it."""

import subprocess
import sys
from pathlib import Path

import zmq.auth

from tests.processes import REPOSITORY


def run(folder: Path, *arguments: str, code: int = 0) -> str:
    command = [sys.executable, "scripts/keys.py", "--folder", str(folder), *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_keys_are_made_listed_and_revoked(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    assert "no keys in" in run(folder, "list")
    assert f"set BROKER_CURVE_SECRET={folder}/broker.key_secret" in run(folder, "new", "broker")
    assert "give billing.key_secret to the client, with broker.key" in run(folder, "new", "client", "billing")
    run(folder, "new", "worker", "gpu-1")
    run(folder, "new", "admin", "billing")
    assert [line.split()[:2] for line in run(folder, "list").splitlines()[1:]] == [
        ["client", "billing"],
        ["worker", "gpu-1"],
        ["admin", "billing"],
    ]
    for file in folder.rglob("*.key*"):
        assert file.stat().st_mode & 0o777 == 0o600
    public, secret = zmq.auth.load_certificate(folder / "secret" / "clients" / "billing.key_secret")
    assert secret is not None
    assert zmq.auth.load_certificate(folder / "clients" / "billing.key") == (public, None)
    assert "there are keys 'billing' of several kinds: client, admin" in run(folder, "revoke", "billing", code=1)
    assert "revoked: client billing" in run(folder, "revoke", "client", "billing")
    assert "has no accepted key 'billing'" in run(folder, "revoke", "client", "billing", code=1)
    assert not (folder / "clients" / "billing.key").exists()
    assert "revoked: admin billing" in run(folder, "revoke", "billing")
    run(folder, "new", "client", "billing")


def test_what_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    run(folder, "new", "client", "billing")
    assert "exists: revoke that key first, or choose another name" in run(folder, "new", "client", "billing", code=1)
    for name in ("../x", "", "a b", "-", "x" * 101):
        assert "is no name for a key" in run(folder, "new", "client", "--", name, code=1)
    assert "new client needs a name" in run(folder, "new", "client", code=1)
    assert "new broker takes no name" in run(folder, "new", "broker", "x", code=1)
    assert "'client a b' is too much: revoke one key" in run(folder, "revoke", "client", "a", "b", code=1)
    run(folder, "new", "broker")
    assert "broker.key exists: move that key away first" in run(folder, "new", "broker", code=1)
    assert "'king' is no kind of key: it should be client, worker, admin" in run(folder, "revoke", "king", "x", code=1)
