"""The benchmark's load generator, against a real cluster and a real HTTP server."""

import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bench import generator
from bench.generator import GeneratorError, http_request, zerorpc_request
from bench.workloads import FLOWER
from tests.needs import unless
from tests.processes import Cluster, cluster

pytestmark = pytest.mark.one_process


@pytest.fixture(scope="module", autouse=True)
def compiler() -> None:
    unless(shutil.which("cc") is not None, "a C compiler")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("generator"), "EchoOnly", "LightIris") as started:
        yield started


class Handler(BaseHTTPRequestHandler):
    """Answers what its path says."""

    protocol_version = "HTTP/1.1"
    answered = 0

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).answered += 1
        self.send_response(500 if self.path == "/error" else 200)
        if self.path == "/chunks":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for part in (body[:1], body[1:]):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n")
            return
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = self.path == "/closes" and self.answered % 10 == 0

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


def test_a_closed_loop_of_zerorpc_calls(made: Cluster) -> None:
    before = made.outcomes("iris_model_predict")["ok"]
    request = zerorpc_request("iris_model_predict", FLOWER)
    load = generator.run(made.frontend, request, 1.0, in_flight=16, contains="setosa")
    assert load.failed == 0
    assert made.outcomes("iris_model_predict")["ok"] - before == load.calls + 1, "the first call is not counted"
    assert load.calls > 100
    assert 0 < load.p50_ms <= load.p99_ms


def test_an_open_loop_keeps_its_rate_over_many_connections(made: Cluster) -> None:
    load = generator.run(made.frontend, zerorpc_request("echo_predict", 1), 2.0, rate=100, connections=50)
    assert (load.calls, load.failed) == (200, 0)


def test_a_large_argument_and_a_stream(made: Cluster) -> None:
    load = generator.run(made.frontend, zerorpc_request("echo_predict", bytes(3_000_000)), 0.5, in_flight=4)
    assert load.calls > 4
    load = generator.run(made.frontend, zerorpc_request("echo_predict_stream", list(range(300))), 1.0, in_flight=4)
    assert load.failed == 0
    assert load.items_a_second == pytest.approx(300 * load.calls_a_second, rel=0.5)


def test_a_call_that_fails_at_once_ends_the_measurement_with_its_error(made: Cluster) -> None:
    with pytest.raises(GeneratorError, match=r"the first call failed: .*NameError"):
        generator.run(made.frontend, zerorpc_request("no_such_predict", 1), 0.5)
    with pytest.raises(GeneratorError, match="the first call failed"):
        generator.run(made.frontend, zerorpc_request("iris_model_predict", FLOWER), 0.5, contains="virginica")


@pytest.mark.parametrize("path", ["/plain", "/chunks"])
def test_http_answers_with_a_length_or_in_chunks(server: str, path: str) -> None:
    url = server + path
    load = generator.run(url, http_request(url, b"the body", "text/plain"), 0.5, in_flight=4, contains="the body")
    assert load.calls > 4
    assert load.failed == 0


def test_after_a_closed_connection_the_calls_go_on(server: str) -> None:
    url = f"{server}/closes"
    load = generator.run(url, http_request(url, b"the body", "text/plain"), 2.0, in_flight=2)
    assert load.failed > 2, "the server closes a connection after every tenth answer"
    assert load.calls > 30, "each connection goes on after it has been closed"


def test_an_http_error_is_told(server: str) -> None:
    url = f"{server}/error"
    with pytest.raises(GeneratorError, match=r"the first call failed: HTTP/1\.1 500"):
        generator.run(url, http_request(url, b"x", "text/plain"), 0.5)


def test_nobody_at_the_address() -> None:
    with pytest.raises(GeneratorError, match="cannot connect: Connection refused"):
        generator.run("tcp://127.0.0.1:1", b"", 0.5)
