"""`docker compose` on a real engine: scaling, failures, updates, and what Prometheus sees of them."""

import json
import math
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import zerorpc

from tests.containers.compose import FLOWER, IMAGE, SCRAPES_S, Compose, docker
from tests.figures import Figure
from tests.processes import REPOSITORY, Load, get, total, wait_until

pytestmark = [pytest.mark.timeout(300), pytest.mark.one_process]

IMAGE_MB = 500
"""How large the image may be. Here 177 MB are Python's own, and most of the rest scikit-learn and what it needs."""


@pytest.fixture(scope="module")
def compose() -> Iterator[Compose]:
    made = Compose()
    made("build", "--quiet")
    try:
        begin_s = time.monotonic()
        made("up", "--detach", "--wait")
        made.up_s = time.monotonic() - begin_s  # type: ignore[attr-defined]
        yield made
        print(made("logs", "--no-color", "--tail=50"))  # noqa: T201 - pytest shows it with a failure
    finally:
        made("down", "--volumes", "--timeout=30")


@pytest.fixture
def disturbed(compose: Compose) -> Iterator[Compose]:
    """The same cluster, for a test that scales, breaks or updates it: it has two ready workers again afterwards."""
    yield compose
    compose("up", "--detach", "--wait")
    compose.wait_for_workers(2)
    assert predict(compose) == {"species": "setosa"}


def predict(compose: Compose) -> Any:
    client = zerorpc.Client(compose.frontend, timeout=30)
    try:
        return client.iris_model_predict(FLOWER)
    finally:
        client.close()


@contextmanager
def under_load(compose: Compose, **options: Any) -> Iterator[Load]:
    options = {"argument": json.dumps(FLOWER), "in_flight": 8, "connections": 4, **options}
    before = any_calls(compose)
    load = Load(compose.frontend, "iris_model_predict", options)
    try:
        wait_until(lambda: any_calls(compose) > before, 30, "calls are answered")
        yield load
    finally:
        load.end()


def ok_calls(compose: Compose) -> float:
    return total(compose.http, "zerorpc_broker_requests_total", method="iris_model_predict", outcome="ok")


def any_calls(compose: Compose) -> float:
    return total(compose.http, "zerorpc_broker_requests_total", method="iris_model_predict")


def assert_no_call_was_lost(load: Load, figure: Figure | None = None, what: str = "") -> dict[str, Any]:
    load.stop()
    result = load.result()
    if figure is not None:
        figure(f"containers: of {result['sent']} calls while {what}, lost", result["unanswered"], "")
    assert set(result["outcomes"]) == {"OK"}
    assert result["unanswered"] == result["unasked"] == 0
    return result


def test_up_is_ready_within_a_minute_and_a_stock_client_is_served(compose: Compose, figure: Figure) -> None:
    up_s = compose.up_s  # type: ignore[attr-defined]
    figure("containers: docker compose up --wait, the image being built", up_s, "s")
    assert up_s < 60
    assert predict(compose) == {"species": "setosa"}
    assert get(compose.http, "/readyz") == (200, "ready\n")


def test_the_image_is_small_and_holds_neither_root_nor_secrets(compose: Compose, figure: Figure) -> None:
    (image,) = json.loads(docker("image", "inspect", IMAGE))
    figure("containers: size of the image", image["Size"] / 1e6, "MB")
    assert image["Size"] < IMAGE_MB * 1e6
    assert image["Config"]["User"] == "10001:10001"
    assert not [one for one in image["Config"]["Env"] if re.search("PASSW|SECRET|TOKEN|KEY", one)]
    for service in ("broker", "worker"):
        for container in compose.containers(service):
            users = docker("top", container, "-eo", "pid,uid").split()[3::2]
            assert users
            assert set(users) == {"10001"}
            (described,) = json.loads(docker("inspect", container))
            assert described["HostConfig"]["ReadonlyRootfs"]
            assert described["HostConfig"]["CapDrop"] == ["ALL"]
    tools = "import shutil; print([name for name in ('gcc', 'cc', 'make') if shutil.which(name)])"
    assert compose("exec", "-T", "broker", "python", "-c", tools) == "[]\n"


def test_what_is_published_is_on_loopback_and_the_backend_is_closed(compose: Compose) -> None:
    published = compose("ps", "--format", "{{.Ports}}")
    assert "0.0.0.0:" not in published
    assert "->4243" not in published
    (network,) = json.loads(docker("network", "inspect", f"{compose.project}_backend"))
    assert network["Internal"]


def test_the_books_of_prometheus_balance(compose: Compose) -> None:
    calls = 500
    names = "method='iris_model_predict',outcome=~'ok|error'"
    requests = f"sum(zerorpc_broker_requests_total{{{names}}})"
    predictions = "sum(zerorpc_worker_predictions_total{model='iris_model'})"
    before = ok_calls(compose)
    with under_load(compose, calls=calls) as load:
        assert load.result()["outcomes"]["OK"]["count"] == calls
    client = zerorpc.Client(compose.frontend, timeout=30)
    with pytest.raises(zerorpc.RemoteError):
        client.iris_model_predict({"sepal_length": "long"})
    with pytest.raises(zerorpc.RemoteError):
        client.no_such_procedure()
    client.close()
    wait_until(lambda: compose.value(requests) == before + calls + 1, SCRAPES_S, "Prometheus has seen the calls")
    wait_until(lambda: compose.value(predictions) == compose.value(requests), SCRAPES_S, "the workers' sum is the same")
    assert compose.value("sum(zerorpc_worker_predictions_total{outcome='invalid_input'})") == 1
    assert compose.value("zerorpc_broker_requests_total{method='unknown',outcome='not_found'}") == 1
    assert compose.value("sum(zerorpc_broker_dispatched_total)") == before + calls + 1
    assert compose.value("sum(zerorpc_worker_batch_size_sum)") == before + calls + 1
    assert compose.value("sum(zerorpc_worker_prediction_duration_seconds_count)") == before + calls + 1


# Metrics after a few calls, with the bounds of their sums.
SENSIBLE = {
    "zerorpc_broker_request_duration_seconds_count": (1, 1e9),
    "zerorpc_broker_queue_wait_seconds_count": (1, 1e9),
    "zerorpc_broker_queue_depth": (0, 0),
    "zerorpc_broker_inflight": (0, 0),
    "zerorpc_broker_workers{state='ready'}": (2, 2),
    "zerorpc_broker_workers{state='draining'}": (0, 0),
    "zerorpc_broker_model_workers": (2, 2),
    "zerorpc_broker_worker_lost_total": (0, 100),
    "zerorpc_broker_retries_total": (0, 100),
    "zerorpc_broker_late_replies_total": (0, 100),
    "zerorpc_broker_clients_dropped_total": (0, 100),
    "zerorpc_broker_connections{socket='workers'}": (4, 4),
    "zerorpc_broker_accept_pauses_total": (0, 0),
    "zerorpc_broker_bad_frames_total": (0, 0),
    "zerorpc_broker_open_channels": (0, 0),
    "zerorpc_broker_draining": (0, 0),
    "zerorpc_broker_loop_lag_seconds": (1e-6, 1),
    "zerorpc_broker_build_info": (1, 1),
    "zerorpc_worker_predictions_in_progress": (0, 0),
    "zerorpc_worker_model_info": (2, 2),
    "zerorpc_worker_connected": (2, 2),
    "process_cpu_seconds_total{job='worker'}": (0.1, 1e4),
    "process_resident_memory_bytes{job='broker'}": (1e7, 1e9),
}


@pytest.mark.parametrize("metric", SENSIBLE)
def test_every_metric_is_there_with_a_sensible_value(compose: Compose, metric: str) -> None:
    low, high = SENSIBLE[metric]
    wait_until(lambda: low <= compose.value(f"sum({metric})") <= high, SCRAPES_S, f"{metric} is from {low} to {high}")


def expressions() -> list[str]:
    dashboard = json.loads((REPOSITORY / "deploy" / "grafana" / "dashboards" / "cluster.json").read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]


def test_every_panel_of_the_dashboard_shows_something(compose: Compose) -> None:
    with under_load(compose) as load:
        for expression in expressions():
            wait_until(partial(_has_values, compose, expression), 60, f"{expression} has values")
        assert_no_call_was_lost(load)


def _has_values(compose: Compose, expression: str) -> bool:
    """Whether a value is a number: a quantile of a procedure without calls is NaN."""
    values = [float(one["value"][1]) for one in compose.query(expression)]
    return any(not math.isnan(value) for value in values)


def test_four_workers_share_the_load_and_prometheus_finds_them(disturbed: Compose, figure: Figure) -> None:
    begin_s = time.monotonic()
    disturbed("up", "--detach", "--scale", "worker=4")
    disturbed.wait_for_workers(4)
    figure("containers: from --scale worker=4 to four ready workers", time.monotonic() - begin_s, "s")
    with under_load(disturbed) as load:

        def shares() -> list[float]:
            dispatched = disturbed.query("zerorpc_broker_dispatched_total")
            return [float(one["value"][1]) for one in dispatched if one["metric"]["worker"] in names]

        names = {f"{worker['host']}-{worker['pid']}" for worker in disturbed.workers()}
        loaded_s = time.monotonic()
        wait_until(lambda: len(shares()) == 4 and min(shares()) > 50, SCRAPES_S, "all four are given work")
        figure("containers: from load to all four seen to work, by Prometheus", time.monotonic() - loaded_s, "s")

        def found() -> set[str | None]:
            return {one["metric"].get("worker") for one in disturbed.query("up{job='worker'} == 1")}

        # For a moment, Prometheus may still have the workers of the test before.
        wait_until(lambda: found() == names, SCRAPES_S, "Prometheus scrapes the four workers and no other")
        assert disturbed.targets_up() == 5
        assert_no_call_was_lost(load)


def test_a_killed_container_costs_no_call(disturbed: Compose, figure: Figure) -> None:
    with under_load(disturbed) as load:
        wait_until(lambda: ok_calls(disturbed) > 200, 30, "the load is under way")
        docker("kill", disturbed.containers("worker")[0])
        disturbed.wait_for_workers(1)
        disturbed("up", "--detach")
        disturbed.wait_for_workers(2)
        result = assert_no_call_was_lost(load)
        figure(f"containers: of {result['sent']} calls while a worker's container was killed, lost", 0, "")


def test_a_worker_cut_off_from_the_network_comes_back(disturbed: Compose, figure: Figure) -> None:
    network = f"{disturbed.project}_backend"
    with under_load(disturbed) as load:
        container = disturbed.containers("worker")[0]
        docker("network", "disconnect", network, container)
        cut_s = time.monotonic()
        disturbed.wait_for_workers(1)
        figure("containers: from a worker's network cut to it evicted", time.monotonic() - cut_s, "s")
        docker("network", "connect", network, container)
        figure("containers: from its network back to the worker back", disturbed.wait_for_workers(2), "s")
        assert_no_call_was_lost(load)


def test_a_new_image_for_the_workers_costs_no_call(disturbed: Compose, figure: Figure, tmp_path: Path) -> None:
    new = f"{IMAGE}:new"
    (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nLABEL release=new\n")
    docker("build", "--quiet", "--tag", new, str(tmp_path))
    before = set(disturbed.containers("worker"))
    with under_load(disturbed) as load:
        disturbed.environment["WORKER_IMAGE"] = new  # for the tests that follow, too
        disturbed("up", "--detach", "--wait")
        disturbed.wait_for_workers(2)
        assert not before & set(disturbed.containers("worker"))
        result = assert_no_call_was_lost(load)
        figure(f"containers: of {result['sent']} calls while all workers got a new image, lost", 0, "")
        figure("containers: longest of these calls", result["outcomes"]["OK"]["max_ms"] / 1000, "s")


WINE = """
import pytz  # of requirements.txt
from ml_model_abc import MLModel


class Wine(MLModel):
    display_name = "Wine"
    qualified_name = "wine"
    description = "Says what is in its file."
    major_version, minor_version = 1, 0
    input_schema = output_schema = None

    def __init__(self):
        with open("/srv/app/weights.txt") as file:
            self._weights = file.read().strip()

    def predict(self, data):
        return self._weights
"""


def test_a_folder_of_ones_own_becomes_an_image_of_workers(disturbed: Compose, tmp_path: Path) -> None:
    new = f"{IMAGE}-wine"
    (tmp_path / "wine.py").write_text(WINE)
    (tmp_path / "models.py").write_text('class Mine:\n    models = [{"module_name": "wine", "class_name": "Wine"}]\n')
    (tmp_path / "requirements.txt").write_text("pytz\n")
    build = ["build", "-f", "deploy/examples/app.Dockerfile", "--build-arg", f"BASE={IMAGE}", "-t", new, str(tmp_path)]
    with pytest.raises(AssertionError, match=r"FileNotFoundError: .*/srv/app/weights.txt"):
        docker(*build)
    (tmp_path / "weights.txt").write_text("all there")
    docker(*build)
    before = disturbed.environment["WORKER_IMAGE"]
    try:
        disturbed.environment["WORKER_IMAGE"] = new
        disturbed("up", "--detach", "--wait")
        disturbed.wait_for_workers(2)
        client = zerorpc.Client(disturbed.frontend, timeout=30)
        assert client.wine_predict(None) == "all there"
        client.close()
    finally:
        disturbed.environment["WORKER_IMAGE"] = before


def test_a_restarted_broker_is_found_again_by_workers_and_clients(disturbed: Compose, figure: Figure) -> None:
    client = zerorpc.Client(disturbed.frontend, timeout=30, heartbeat=1)
    assert client.iris_model_predict(FLOWER) == {"species": "setosa"}
    disturbed("restart", "--no-deps", "broker")
    figure("containers: from the broker's restart to its workers back", disturbed.wait_for_workers(2), "s")
    assert client.iris_model_predict(FLOWER) == {"species": "setosa"}
    client.close()


def test_logs_are_json_where_that_is_asked_for(compose: Compose) -> None:
    text = compose("logs", "--no-color", "--no-log-prefix", "broker", "worker")
    events = [json.loads(line) for line in text.replace("\x1b[2K", "").splitlines() if line]
    assert {event["logger"] for event in events} >= {"broker", "broker.io.loop", "worker.loop.session"}
    assert all({"time", "level", "message"} <= set(event) for event in events)


def test_the_example_of_settings_names_all_that_compose_knows() -> None:
    text = (REPOSITORY / "docker-compose.yml").read_text()
    passed_on = re.findall(r"^ {6}((?:BROKER|WORKER|LOG|APP|OMP)_\w+):", text, re.M)
    known = set(re.findall(r"\$\{(\w+)", text)) | set(passed_on)
    named = set(re.findall(r"^#(\w+)=", (REPOSITORY / ".env.example").read_text(), re.M))
    assert named == known


def test_the_example_of_pools_gives_each_its_models() -> None:
    files = ("-f", "docker-compose.yml", "-f", "deploy/examples/pools.compose.yml")
    services = json.loads(docker("compose", *files, "config", "--format", "json"))["services"]
    pools = {name: one["environment"].get("WORKER_MODELS") for name, one in services.items() if "worker" in name}
    assert pools == {"worker": "iris_model", "worker-text": "topic_model,story_model"}
    assert services["worker-text"]["networks"] == services["worker"]["networks"]
    assert services["worker-text"]["deploy"]["replicas"] == 1


def test_what_was_loaded_and_unloaded_outlives_the_containers(disturbed: Compose) -> None:
    def models(*arguments: str) -> str:
        return disturbed("exec", "-T", "broker", "python", "scripts/models.py", *arguments)

    assert models("list").splitlines()[1].split()[:3] == ["iris_model", "0.1", "ready"]
    assert models("unload", "iris_model") == "iris_model 0.1 was unloaded\n"
    with pytest.raises(zerorpc.RemoteError, match="is not a procedure"):
        predict(disturbed)
    disturbed("up", "--detach", "--wait", "--force-recreate", "broker", "worker")
    disturbed.wait_for_workers(2)
    with pytest.raises(zerorpc.RemoteError, match="is not a procedure"):
        predict(disturbed)
    assert models("load", "iris_model.iris_predict:IrisModel").startswith("iris_model 0.1 was loaded on ")
    assert predict(disturbed) == {"species": "setosa"}


def test_stopping_lets_what_was_accepted_finish(compose: Compose, figure: Figure) -> None:
    """The last test of this file: the cluster is not started again."""
    calls = 1600
    # The estimator refuses these rows, so they are not computed in batches, and 1,000 of them take more than a second.
    refused = json.dumps({**FLOWER, "sepal_width": float("nan")})
    with under_load(compose, argument=refused, calls=calls, in_flight=calls, connections=4) as load:
        (broker,) = compose.containers("broker")
        begin_s = time.monotonic()
        compose("stop")
        took_s = time.monotonic() - begin_s
        result = load.result()
        figure(f"containers: of {calls} calls when the project is stopped, lost", result["unanswered"], "")
        figure("containers: docker compose stop", took_s, "s")
        still_open = re.findall(r"draining: (\d+) calls are open", docker("logs", broker))[-1]
        assert int(still_open) > 100, "there was something to finish"
        assert set(result["outcomes"]) <= {"ValueError", "Draining"}
        assert result["unanswered"] == 0
        assert took_s < 15, "workers do not wait for the broker's name, which nobody has any more"
