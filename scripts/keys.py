"""Makes, lists and revokes the keys of brokers, clients, workers and administrators (docs/security.md).

A folder of keys has what the broker reads: broker.key_secret, and the folders clients, workers and admins with the
public keys of those who may connect. Its folder secret has what is to be given to them.
"""

import argparse
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

import zmq.auth

from scripts.cluster_settings import RUN, fail
from zmtp.certificates import PUBLIC_SUFFIX, SECRET_SUFFIX

BROKER = "broker"
KINDS = {"client": "clients", "worker": "workers", "admin": "admins"}
"""The kinds of peers, and the folders of their public keys."""

SECRETS, REVOKED = "secret", "revoked"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def new(folder: Path, kind: str, name: str) -> list[Path]:
    """Make a pair of keys.

    Args:
        folder: the folder of keys, which may not exist yet.
        kind: BROKER, or one of KINDS.
        name: of the client, worker or administrator; access rules, logs and metrics use it.

    Returns:
        The public and the secret key file; both can be read by this user only.
    """
    if kind != BROKER and not _NAME.fullmatch(name):
        fail(f"{name!r} is no name for a key: use letters, digits, '.', '_' and '-', 100 at most")
    public = public_file(folder, kind, name)
    secret = secret_file(folder, kind, name)
    for file in (public, secret):
        if file.exists():
            way_out = "move that key away first" if kind == BROKER else "revoke that key first, or choose another name"
            fail(f"{file} exists: {way_out}")
    before = os.umask(0o077)
    try:
        for file in (public, secret):
            file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as made:
            zmq.auth.create_certificates(made, "new", metadata={"kind": kind, "name": name})
            shutil.move(f"{made}/new{SECRET_SUFFIX}", secret)
            shutil.move(f"{made}/new{PUBLIC_SUFFIX}", public)  # last: from now on, the key is accepted
    finally:
        os.umask(before)
    return [public, secret]


def public_file(folder: Path, kind: str, name: str) -> Path:
    """Return where a public key is."""
    return folder / f"{BROKER}{PUBLIC_SUFFIX}" if kind == BROKER else folder / KINDS[kind] / f"{name}{PUBLIC_SUFFIX}"


def secret_file(folder: Path, kind: str, name: str) -> Path:
    """Return where a secret key is."""
    if kind == BROKER:
        return folder / f"{BROKER}{SECRET_SUFFIX}"
    return folder / SECRETS / KINDS[kind] / f"{name}{SECRET_SUFFIX}"


def _found(folder: Path) -> list[tuple[str, Path]]:
    """Return the public keys that are accepted, by kind."""
    return [(kind, file) for kind, of in KINDS.items() for file in sorted((folder / of).glob(f"*{PUBLIC_SUFFIX}"))]


def _new(options: argparse.Namespace) -> None:
    if (options.kind == BROKER) == (options.name is not None):
        fail("new broker takes no name" if options.kind == BROKER else f"new {options.kind} needs a name")
    public, secret = new(options.folder, options.kind, BROKER if options.kind == BROKER else options.name)
    print(f"public key: {public}")
    print(f"secret key: {secret}")
    if options.kind == BROKER:
        print(f"set BROKER_CURVE_SECRET={secret}, and give {public.name} to clients and workers")
    else:
        print(f"give {secret.name} to the {options.kind}, with {BROKER}{PUBLIC_SUFFIX}, and keep no copy of it here")


def _list(options: argparse.Namespace) -> None:
    broker = public_file(options.folder, BROKER, "")
    if broker.exists():
        print(f"{BROKER:<8}{'':<24}{_made(broker)}")
    for kind, file in _found(options.folder):
        print(f"{kind:<8}{file.name.removesuffix(PUBLIC_SUFFIX):<24}{_made(file)}")
    if not broker.exists() and not _found(options.folder):
        print(f"no keys in {options.folder}; make some with: scripts/keys.py new broker")


def _made(file: Path) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(file.stat().st_mtime))


def _revoke(options: argparse.Namespace) -> None:
    *kinds, name = options.name
    if len(kinds) > 1:
        fail(f"{' '.join(options.name)!r} is too much: revoke one key, by its name, or by its kind and name")
    if kinds and kinds[0] not in KINDS:
        fail(f"{kinds[0]!r} is no kind of key: it should be {', '.join(KINDS)}")
    found = [(kind, file) for kind, file in _found(options.folder) if kind in (kinds or KINDS) and file.stem == name]
    if not found:
        fail(f"{options.folder} has no accepted key {name!r}; scripts/keys.py list shows them")
    if len(found) > 1:
        fail(f"there are keys {name!r} of several kinds: {', '.join(kind for kind, _ in found)}; name the kind first")
    ((kind, file),) = found
    (options.folder / REVOKED).mkdir(exist_ok=True)
    file.rename(options.folder / REVOKED / f"{kind}-{name}-{time.strftime('%Y%m%dT%H%M%S')}{PUBLIC_SUFFIX}")
    secret_file(options.folder, kind, name).unlink(missing_ok=True)
    print(f"revoked: {kind} {name}; a broker that reads this folder closes its connections within a second")


def main() -> None:
    """Carry out one command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=RUN / "keys", help="the folder of keys (default: %(default)s)")
    commands = parser.add_subparsers(required=True, metavar="command")
    one = commands.add_parser("new", help="make a pair of keys")
    one.add_argument("kind", choices=[BROKER, *KINDS])
    one.add_argument("name", nargs="?", help="of the client, worker or administrator")
    one.set_defaults(run=_new)
    commands.add_parser("list", help="show the keys that are accepted").set_defaults(run=_list)
    one = commands.add_parser("revoke", help="accept a key no longer")
    one.add_argument("name", nargs="+", metavar="[kind] name", help="such as: billing, or: client billing")
    one.set_defaults(run=_revoke)
    options = parser.parse_args()
    try:
        options.run(options)
    except OSError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
