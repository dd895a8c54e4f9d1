"""Stock ZeroRPC servers, Python's and Node's, that connect to the broker as workers."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
import zerorpc

from tests import npm
from tests.figures import Figure
from tests.processes import REPOSITORY, Cluster, cluster, get, samples, total, wait_until

TOOLS = REPOSITORY / "tests" / "node" / "tools.js"

ZERORPC = Path(sys.executable).parent / "zerorpc"
FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}

CLIENTS = 16
CALLS = 5000
STREAMS = 200
ITEMS = 500


def start_node_server(made: Cluster) -> None:
    executable, _ = npm.node()
    made.start_server(executable, TOOLS)


@pytest.fixture
def tools(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path) as made:
        made.start_server()
        made.wait_for_workers(1)
        yield made


def test_python_and_node_servers_are_one_pool(tmp_path: Path, figure: Figure) -> None:
    with cluster(tmp_path) as made:
        for _ in range(3):
            made.start_server()
        for _ in range(2):
            start_node_server(made)
        made.wait_for_workers(5)
        streams = iter(range(STREAMS))
        calls = iter(range(CALLS))

        def work(client: Any) -> None:
            for number in calls:
                assert client.double(number) == 2 * number
                if number % (CALLS // STREAMS) == 0:
                    next(streams)
                    assert list(client.numbers(ITEMS)) == list(range(ITEMS))

        tasks = [gevent.spawn(work, made.client()) for _ in range(CLIENTS)]
        gevent.joinall(tasks, timeout=200, raise_error=True)
        assert next(streams, None) is None
        given = samples(made.http, "zerorpc_broker_dispatched_total")
        mean = sum(given.values()) / len(given)
        assert sum(given.values()) == CALLS + STREAMS
        figure("most calls of a stock server, of the mean of five", max(given.values()) / mean, "")
        figure("fewest calls of a stock server, of the mean of five", min(given.values()) / mean, "")
        assert all(mean / 2 <= count <= 2 * mean for count in given.values()), given
        assert made.outcomes("double") == {"ok": CALLS}
        assert made.outcomes("numbers") == {"ok": STREAMS}
        bad = samples(made.http, "zerorpc_broker_bad_frames_total")
        assert {dict(labels)["reason"] for labels, count in bad.items() if count} <= {"unknown_conversation"}
        assert made.in_flight() == made.open_calls() == 0


def test_clients_of_every_kind_call_servers_of_every_kind(tmp_path: Path) -> None:
    node, folder = npm.node()
    with cluster(tmp_path) as made:
        for start in (made.start_server, lambda: start_node_server(made)):
            start()
            made.wait_for_workers(1)
            client = made.client()
            assert client.double(21) == 42
            assert list(client.numbers(250)) == list(range(250))
            with pytest.raises(zerorpc.RemoteError) as raised:
                client.double(1, 2, 3)  # for Node's server, the callback is the second argument
            assert raised.value.name == "TypeError"
            command = [node, str(folder / "call.js"), made.frontend, "double", "21"]
            answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=True)
            assert json.loads(answer.stdout) == 42
            answer = subprocess.run(
                [ZERORPC, "-j", made.frontend, "double", "21"],
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            )
            assert json.loads(answer.stdout) == 42
            made.processes[-1].end()
            made.wait_for_workers(0)


def test_the_server_for_node_in_the_document_runs(tmp_path: Path) -> None:
    node, folder = npm.node()
    (code,) = re.findall(r"```javascript\n(.*?)```", (REPOSITORY / "docs" / "servers.md").read_text(), re.DOTALL)
    with cluster(tmp_path) as made:
        package = json.dumps(str(folder / "node_modules" / "zerorpc"))
        file = tmp_path / "greeter.js"
        file.write_text(code.replace('"zerorpc"', package).replace('"tcp://127.0.0.1:4243"', "process.argv[2]"))
        made.start_server(node, file)
        (server,) = made.wait_for_workers(1)
        assert server["service"] == "Greeter"
        assert made.client().hello("Node") == "Hello, Node"
        assert list(made.client().count(200)) == list(range(200))


def test_the_pages_show_servers(tools: Cluster) -> None:
    tools.client().double(1)
    (server,) = tools.workers()
    assert (server["kind"], server["service"], server["state"]) == ("server", "Tools", "ready")
    assert (server["id"], server["host"]) == ("Tools-1", "127.0.0.1")
    assert samples(tools.http, "zerorpc_broker_servers") == {(("service", "Tools"),): 1}
    assert total(tools.http, "zerorpc_broker_dispatched_total", worker="Tools-1") == 1
    status, body = get(tools.http, "/prometheus/targets")
    assert (status, json.loads(body)) == (200, []), "a stock server has no metrics to ask for"


def test_introspection_shows_methods_with_docstrings(tools: Cluster) -> None:
    client = tools.client()
    assert {"double", "numbers", "repeat", "pid", "sleep", "compute"} <= set(client._zerorpc_list())
    assert client._zerorpc_help("double") == "Return twice the number."
    methods = {method["name"]: method for method in client.get_service_schema()["methods"]}
    assert methods["double"]["x-service"] == "Tools"
    assert methods["double"]["summary"] == "Return twice the number."


def test_readiness_counts_services_only_if_they_are_expected(tmp_path: Path) -> None:
    with cluster(tmp_path, "EchoOnly") as made, cluster(tmp_path, BROKER_EXPECTED_MODELS="Tools") as expecting:
        assert get(expecting.http, "/readyz")[0] == 503
        for one, others in ((made, 1), (expecting, 0)):
            one.start_server()
            one.wait_for_workers(others + 1)
            assert get(one.http, "/readyz")[0] == 200
            one.processes[-1].end()
            one.wait_for_workers(others)
        assert get(made.http, "/readyz")[0] == 200
        status, body = get(expecting.http, "/readyz")
        assert status == 503
        assert "Tools" in body


def test_models_and_services_are_called_side_by_side(tmp_path: Path) -> None:
    with cluster(tmp_path, "EchoOnly") as made:
        made.start_server()
        made.wait_for_workers(2)
        client = made.client()
        assert client.echo_predict("x") == "x"
        assert client.double(4) == 8


def test_the_service_as_it_began_runs_unchanged_behind_the_broker(tmp_path: Path) -> None:
    with cluster(tmp_path) as made:
        for _ in range(2):
            made.start_server(sys.executable, "-m", "tests.services.seed_service")
        made.wait_for_workers(2)
        client = made.client()
        (model,) = client.get_models()
        assert (model["qualified_name"], model["major_version"], model["minor_version"]) == ("iris_model", 0, 1)
        metadata = client.get_model_metadata("iris_model")
        assert metadata["input_schema"]["required"] == list(FLOWER)
        assert client.iris_model_predict(FLOWER) == {"species": "setosa"}
        with pytest.raises(zerorpc.RemoteError) as raised:
            client.iris_model_predict({**FLOWER, "petal_width": "wide"})
        assert raised.value.name == "MLModelSchemaValidationException"
        with pytest.raises(zerorpc.RemoteError) as raised:
            client.get_model_metadata("nope")
        assert (raised.value.name, raised.value.msg) == ("ValueError", "Metadata not found for this model.")
        listed = subprocess.run([ZERORPC, made.frontend], capture_output=True, text=True, timeout=60, check=True).stdout
        assert "iris_model_predict" in listed
        assert "Return the models of this service." in listed


def test_a_server_at_the_address_for_clients_is_named_in_the_log(tmp_path: Path) -> None:
    with cluster(tmp_path) as made:
        server = zerorpc.Server({"double": lambda number: 2 * number}, name="Lost")
        server.connect(made.frontend)
        task = gevent.spawn(server.run)
        text = "a ZeroRPC server has connected to BROKER_FRONTEND; connect it to BROKER_BACKEND instead"
        wait_until(lambda: text in made.broker.output(), 10, "the broker warns")
        assert made.workers() == []
        task.kill()
        server.close()


def test_calls_wait_while_all_servers_are_full(tmp_path: Path) -> None:
    with cluster(tmp_path, BROKER_SERVER_CALLS="2") as made:
        made.start_server()
        made.wait_for_workers(1)
        calls = [gevent.spawn(made.client().sleep, 0.5) for _ in range(6)]
        wait_until(lambda: made.open_calls() == 6, 5, "all calls have arrived")
        assert made.in_flight() == 2
        gevent.joinall(calls, timeout=10, raise_error=True)


def test_a_method_may_run_for_a_limited_time(tmp_path: Path) -> None:
    with cluster(tmp_path, BROKER_SERVER_TIMEOUT_S="1") as made:
        made.start_server()
        made.wait_for_workers(1)
        with pytest.raises(zerorpc.RemoteError) as raised:
            made.client().sleep(3)
        assert raised.value.name == "DeadlineExceeded"
        assert made.client().double(1) == 2
