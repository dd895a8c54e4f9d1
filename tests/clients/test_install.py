"""The package of the Python client, installed as a user does it: nothing of gevent or ZeroMQ comes with it."""

import subprocess
import sys
from pathlib import Path

from tests.processes import REPOSITORY, cluster

PROGRAM = """
import sys
import zerorpc_cluster, zmtp
assert not {"gevent", "zmq", "zerorpc"} & set(sys.modules)
with zerorpc_cluster.Client(sys.argv[1]) as client:
    print(client.echo_predict("installed"), zmtp.__file__.startswith(sys.prefix))
"""


def run(*command: str, folder: Path) -> str:
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)
    assert result.returncode == 0, (result.stdout, result.stderr)
    return result.stdout


def test_pip_installs_a_client_that_needs_only_msgpack(tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", "venv", folder=tmp_path)
    python = str(tmp_path / "venv" / "bin" / "python")
    run(python, "-m", "pip", "install", "--quiet", str(REPOSITORY / "clients" / "python"), folder=tmp_path)
    installed = run(python, "-m", "pip", "list", "--format=freeze", folder=tmp_path).lower()
    names = {line.partition("==")[0] for line in installed.split()}
    assert names - {"pip", "setuptools"} == {"msgpack", "zerorpc-cluster-client"}
    with cluster(tmp_path, "EchoOnly") as made:
        assert run(python, "-c", PROGRAM, made.frontend, folder=tmp_path) == "installed True\n"
