"""`make compose`: starts the cluster in containers, with the models of a folder if `APP` names one.

It builds the images, does what `docker compose up -d --wait` does, stops waiting as soon as no worker can load its
models, and shows the last lines of what has failed.
"""

import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

from cluster.runtime.settings import ConfigError
from scripts import interrupts
from scripts.app_folder import app_folder, app_settings
from scripts.calling import result_of
from scripts.cluster_settings import REPOSITORY, fail, worker_count
from scripts.loading_timeout import loading_timeout_s
from scripts.waiting import START_TIMEOUT_S

_OWN_IMAGE = "zerorpc-cluster"
"""The default of `BROKER_IMAGE`; an image of another name is not built here."""

_APP_DOCKERFILE = "deploy/examples/app.Dockerfile"
_SUPERVISOR = "deploy/supervisord.container.conf"
_LOG_LINES = 40
_POLL_S = 1.0
_ENDED = ("BACKOFF", "EXITED", "FATAL", "STOPPED")
"""States of supervisor's processes that have ended; the reaper stops a worker that exits with 2 (a wrong setting)."""


def main() -> None:
    """Build, start, wait, print."""
    interrupts.explain(lambda: "docker compose ps shows what runs; docker compose down stops it")
    try:
        folder, longest_s = app_folder(), START_TIMEOUT_S + loading_timeout_s()
    except ConfigError as error:
        fail(str(error))
    scale = ("--scale", f"worker={worker_count()}") if os.environ.get("WORKERS") else ()
    _check_docker()
    image = _output("docker", "compose", "config", "--images", "broker").split()[0]
    if image == _OWN_IMAGE:
        _run("docker", "compose", "build", "broker")
    if folder is not None:
        image = os.environ["WORKER_IMAGE"] = _build(folder, image)
        os.environ.pop("APP_SETTINGS", None)  # the image has it
    _run("docker", "compose", "up", "--detach", *scale)
    _wait_until_healthy(longest_s)
    _show_service()
    if folder is not None:
        print(f"note: other docker compose commands need the line WORKER_IMAGE={image} in .env")


def _check_docker() -> None:
    try:
        answer = subprocess.run(["docker", "compose", "version"], capture_output=True, text=True, check=False)
        engine = subprocess.run(["docker", "info"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        fail("docker is not installed: make up starts the cluster without containers")
    if answer.returncode != 0:
        fail("docker has no compose plugin (Debian: docker-compose-plugin)")
    if engine.returncode != 0:
        fail(f"the Docker engine does not answer: {engine.stderr.strip().splitlines()[-1]}")


def _build(folder: Path, base: str) -> str:
    """Build the image of a folder on top of the cluster's; return its name."""
    name = f"zerorpc-cluster-app-{re.sub('[^a-z0-9]+', '-', folder.name.lower()).strip('-') or 'models'}"
    arguments = ("--build-arg", f"BASE={base}", "--build-arg", f"APP_SETTINGS={app_settings()}")
    _run("docker", "build", "--file", _APP_DOCKERFILE, *arguments, "--tag", name, str(folder))
    return name


def _wait_until_healthy(longest_s: float) -> None:
    """Wait for every container; end the command when a worker's container has failed, or it takes too long."""
    began_s = time.monotonic()
    failed: set[str] = set()  # processes of workers that have ended at least once
    said = ""
    while True:
        containers = _containers()
        unhealthy = [one for one in containers if one["State"] != "running" or one["Health"] not in ("healthy", "")]
        if not unhealthy:
            return
        workers = {
            f"{one['Name']}/{name}": state
            for one in unhealthy
            if one["Service"].startswith("worker") and one["State"] == "running"
            for name, state in _processes(one["Name"]).items()
        }
        failed.update(name for name, state in workers.items() if state in _ENDED)
        if workers and failed >= workers.keys():
            _show(unhealthy[:1] if len({one["Service"] for one in unhealthy}) == 1 else unhealthy)
            fail("every worker has ended; the log is above. Correct the model, and run make compose again")
        broken = [one for one in unhealthy if one["State"] != "running" or one["Health"] == "unhealthy"]
        waited_s = time.monotonic() - began_s
        if waited_s > (START_TIMEOUT_S if broken else longest_s):
            _show(unhealthy)
            names = ", ".join(one["Name"] for one in unhealthy)
            fail(f"not healthy after {waited_s:.0f} s: {names}; the logs are above")
        if (waiting := ", ".join(one["Name"] for one in unhealthy)) != said:
            said = waiting
            print(f"waiting for {said}", flush=True)
        time.sleep(_POLL_S)


def _containers() -> list[dict[str, Any]]:
    lines = _output("docker", "compose", "ps", "--all", "--format", "json").splitlines()
    return [json.loads(line) for line in lines]


def _processes(container: str) -> dict[str, str]:
    """Return the state of each worker process of a container, as supervisor names it."""
    # The configuration reads this variable, which only the entry point sets; supervisorctl makes no use of it.
    variable = "CLUSTER_WORKER_STOP_S=0"
    command = ["docker", "exec", "--env", variable, container, "supervisorctl", "-c", _SUPERVISOR, "status"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return dict(found for found in re.findall(r"^worker:(\S+)\s+(\w+)(?!\s+Not started)", answer.stdout, re.M))


def _show(containers: list[dict[str, Any]]) -> None:
    for one in containers:
        print(f"==> {one['Name']} <==", flush=True)
        subprocess.run(
            ["docker", "logs", "--tail", str(_LOG_LINES), one["Name"]], stderr=subprocess.STDOUT, check=False
        )


def _show_service() -> None:
    """Print the addresses and the models, which a stock client asks for."""
    address = f"tcp://{_output('docker', 'compose', 'port', 'broker', '4242').strip()}"
    models = result_of(address, START_TIMEOUT_S, lambda client: client.get_models())
    print(f"models:     {', '.join(model['qualified_name'] for model in models)}")
    print(f"clients:    {address}")
    print(f"metrics:    http://{_output('docker', 'compose', 'port', 'broker', '8420').strip()}/metrics")


def _run(*command: str) -> None:
    """Run a command whose progress the user sees."""
    print(" ".join(command), flush=True)
    if subprocess.run(command, cwd=REPOSITORY, check=False).returncode != 0:
        fail(f"`{' '.join(command)}` failed; its last lines above say why")


def _output(*command: str) -> str:
    answer = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        fail(f"`{' '.join(command)}` failed: {answer.stderr.strip()}")
    return answer.stdout


if __name__ == "__main__":
    main()
