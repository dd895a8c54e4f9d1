"""Runs the example in deploy/examples of a supervisor with pools of workers for different models."""

import subprocess
import sys
from pathlib import Path

from tests.processes import REPOSITORY, Cluster, free_ports, own_environment, wait_until

EXAMPLE = REPOSITORY / "deploy" / "examples" / "pools.supervisord.conf"
FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}


def test_each_pool_hosts_its_models(tmp_path: Path) -> None:
    made = Cluster(tmp_path)
    (tmp_path / "run").mkdir()
    text = (
        EXAMPLE.read_text()
        .replace("%(here)s/../../run", str(tmp_path / "run"))
        .replace(".venv/bin/python", sys.executable)
    )
    for port, workers in ((8421, 2), (8431, 1)):
        text = text.replace(f"numprocs_start={port}", f"numprocs_start={free_ports(workers)}")
    configuration = tmp_path / "pools.conf"
    configuration.write_text(text.replace("%(here)s/../..", str(REPOSITORY)))
    environment = {
        **own_environment(),
        "APP_SETTINGS": "example_models.config:Examples",
        "BROKER_FRONTEND": made.frontend,
        "BROKER_BACKEND": made.backend,
        "BROKER_HTTP": made.http,
        "WORKER_BROKER": made.backend,
    }
    supervisord = [sys.executable, "-m", "supervisor.supervisord", "--nodaemon", "-c", str(configuration)]
    with (tmp_path / "supervisord.log").open("wb") as log:
        process = subprocess.Popen(supervisord, env=environment, stdout=log, stderr=log)
    try:
        made.wait_for_workers(3, timeout_s=60)
        assert sorted(worker["models"] for worker in made.workers()) == [
            ["iris_model"],
            ["iris_model"],
            ["story_model", "topic_model"],
        ]
        client = made.client()
        assert client.iris_model_predict(FLOWER) == {"species": "setosa"}
        assert client.topic_model_predict({"text": "alcohol and malic acid"})["topic"] == "wine"
        process.terminate()
        wait_until(lambda: process.poll() is not None, 40, "supervisord has stopped everything")
    finally:
        process.kill()
        process.wait(10)
        made.close()
