"""`docker compose` with keys as Docker secrets, as the head of deploy/compose.secure.yml says."""

import os
from pathlib import Path

import pytest
import zerorpc

from scripts import keys
from scripts.zerorpc_curve import CurveContext
from tests import needs
from tests.containers.compose import FLOWER, IMAGE, Compose, docker
from tests.processes import wait_until

pytestmark = [pytest.mark.timeout(300), pytest.mark.one_process]

CONTAINER_USER = 10001


def test_the_cluster_in_containers_with_keys_serves_keyed_clients_and_no_others(tmp_path: Path) -> None:
    needs.unless(os.getuid() == 0, "root, to give the keys to the containers' user")
    compose = Compose()
    compose.environment["COMPOSE_PROJECT_NAME"] += "-secure"
    compose.environment["COMPOSE_FILE"] += ":deploy/compose.secure.yml"
    compose.environment["CLUSTER_KEYS"] = str(tmp_path)
    compose.environment["LOG_FORMAT"] = "text"
    compose.environment["BROKER_IMAGE"] = compose.environment["WORKER_IMAGE"] = f"{IMAGE}-secure"
    keys.new(tmp_path, keys.BROKER, "")
    keys.new(tmp_path, "worker", "compose")
    _, secret = keys.new(tmp_path, "client", "me")
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.chown(path, CONTAINER_USER, CONTAINER_USER)
    compose("build", "--quiet")
    try:
        compose("up", "--detach", "--wait")
        context = CurveContext(str(secret), str(tmp_path / "broker.key"))
        client = zerorpc.Client(compose.frontend, timeout=30, context=context)
        assert client.iris_model_predict(FLOWER) == {"species": "setosa"}
        client.close()
        context.destroy(linger=0)
        assert {worker["key"] for worker in compose.workers()} == {"compose"}
        plain = zerorpc.Client(compose.frontend, timeout=1, heartbeat=None)
        with pytest.raises(zerorpc.TimeoutExpired):
            plain.get_models()
        plain.close()
        broker = compose.containers("broker")[0]
        refusal = "the peer uses the mechanism b'NULL'"
        wait_until(lambda: refusal in docker("logs", broker), 10, "the log says why")
        assert not [one for one in docker("exec", broker, "env").splitlines() if "secret-key" in one]
    finally:
        compose("down", "--volumes", "--timeout=30")
