"""Keys and access rules with real processes: stock clients, workers, revocation, and what the log says."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import zerorpc
import zmq.auth
from zerorpc_cluster import AsyncClient, Client, ClientError, Keys, Options

from scripts import keys
from tests import npm
from tests.integration.keyed import Keyed, keyed_cluster
from tests.integration.made import Made
from tests.processes import REPOSITORY, get, samples, wait_until

pytestmark = pytest.mark.one_process

FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
SETOSA = {"species": "setosa"}
SOON_S = 1.0


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyed]:
    with keyed_cluster(tmp_path_factory.mktemp("keyed"), "LightIris", "CounterOnly", "EchoOnly") as made:
        yield made


@pytest.fixture(scope="module")
def billing(keyed: Keyed) -> tuple[str, str]:
    """The key of a client that may connect."""
    return keyed.admit("client", "billing")


def requests_of(keyed: Keyed, name: str) -> float:
    return samples(keyed.cluster.http, "zerorpc_broker_client_requests_total").get((("client", name),), 0.0)


def test_a_stock_client_with_a_key_is_served(keyed: Keyed, billing: tuple[str, str]) -> None:
    client = keyed.client(billing)
    before = requests_of(keyed, "billing")
    assert client.iris_model_predict(FLOWER) == SETOSA
    assert list(client.counter_predict_stream(500)) == list(range(500))
    with pytest.raises(zerorpc.RemoteError, match="no_such"):
        client.no_such()
    assert requests_of(keyed, "billing") == before + 3


def test_ten_thousand_calls_are_answered_right(keyed: Keyed, billing: tuple[str, str]) -> None:
    rows = range(10_000)
    with Client(keyed.cluster.frontend, Options(keys=Keys.read(*billing))) as client, ThreadPoolExecutor(32) as pool:
        assert list(pool.map(client.echo_predict, rows)) == list(rows)


def test_the_clients_for_threads_and_asyncio_take_keys(keyed: Keyed, billing: tuple[str, str]) -> None:
    options = Options(keys=Keys.read(*billing))

    async def predict() -> object:
        async with AsyncClient(keyed.cluster.frontend, options) as client:
            return await client.call("iris_model_predict", FLOWER)

    assert asyncio.run(predict()) == SETOSA
    with Client(keyed.cluster.frontend, options) as client:
        assert client.iris_model_predict(FLOWER) == SETOSA
        assert list(client.stream("counter_predict_stream", 300)) == list(range(300))


SERVER = """
import sys
import zerorpc
from scripts.zerorpc_curve import CurveContext

class Greeter:
    def hello(self, name):
        return "Hello, " + name

    @zerorpc.stream
    def letters(self, name):
        return iter(name)

secret, broker_key, service, address = sys.argv[1:]
server = zerorpc.Server(Greeter(), name=service, context=CurveContext(secret, broker_key))
server.connect(address)
server.run()
"""

SERVER_ACCESS = """
[workers.stock]
models = ["Greeter"]

[clients.reader]
allow = ["Greeter"]

[clients.narrow]
allow = ["letters"]
"""


def test_a_stock_server_with_a_key_is_called_within_the_access_rules(tmp_path: Path) -> None:
    access = tmp_path / "access.toml"
    access.write_text(SERVER_ACCESS)
    with keyed_cluster(tmp_path, BROKER_ACCESS=str(access)) as made:
        files = made.admit("worker", "stock")
        made.cluster.start_server(sys.executable, "-c", SERVER, *files, "Other")
        refusal = "was refused: the key 'stock' may not host 'Other'; it may host Greeter"
        wait_until(lambda: refusal in made.broker_log(), 20, "a service that its key may not offer is refused")
        made.cluster.start_server()  # without a key
        wait_until(lambda: "'mechanism': 1" in made.broker_log(), 20, "a server without a key is refused")
        assert made.cluster.workers() == []
        made.cluster.start_server(sys.executable, "-c", SERVER, *files, "Greeter")
        (server,) = made.cluster.wait_for_workers(1)
        assert (server["service"], server["key"]) == ("Greeter", "stock")
        reader = made.client(made.admit("client", "reader"))
        assert reader.hello("reader") == "Hello, reader"
        assert list(reader.letters("abc" * 100)) == list("abc" * 100)
        narrow = made.client(made.admit("client", "narrow"))
        assert list(narrow.letters("abc")) == ["a", "b", "c"]
        assert "hello" not in narrow._zerorpc_list()
        with pytest.raises(zerorpc.RemoteError, match="may not call 'hello'"):
            narrow.hello("narrow")
        made.revoke("worker", "stock")
        made.cluster.wait_for_workers(0)


def test_the_zerorpc_command_takes_keys(keyed: Keyed, billing: tuple[str, str], tmp_path: Path) -> None:
    # As a user would: the one file, copied to a place of its own.
    copied = tmp_path / "zerorpc_curve.py"
    copied.write_text((REPOSITORY / "scripts" / "zerorpc_curve.py").read_text())
    command = [sys.executable, str(copied), *billing, "-j", keyed.cluster.frontend, "iris_model_predict"]
    done = subprocess.run([*command, json.dumps(FLOWER)], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "{'species': 'setosa'}\n"


def test_node_s_stock_client_takes_keys(keyed: Keyed, billing: tuple[str, str]) -> None:
    node, folder = npm.node()
    own, broker = (zmq.auth.load_certificate(file) for file in billing)
    texts = [(key or b"").decode() for key in (*own, broker[0])]
    command = [node, str(folder / "curve_client.js"), keyed.cluster.frontend, *texts]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == SETOSA


def test_the_example_scripts_take_keys_from_the_environment(keyed: Keyed, billing: tuple[str, str]) -> None:
    command = [sys.executable, "scripts/get_models.py", keyed.cluster.frontend]
    names = ("ZERORPC_CURVE_SECRET", "ZERORPC_CURVE_SERVER")
    for environment, code, says in (
        (dict(zip(names, billing, strict=True)), 0, "iris_model"),
        ({names[0]: billing[0]}, 1, "belong together, and only one is set"),
        (dict.fromkeys(names, "/nowhere"), 1, "/nowhere"),
    ):
        done = subprocess.run(
            command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == code
        assert says in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


REFUSED = {
    "no key": "the peer uses the mechanism b'NULL'; this end uses b'CURVE'",
    "an unlisted key": "the peer's key is none of those that are accepted",
    "another broker's key": "the peer knows another key of this server",
}


def wrong_files(keyed: Keyed, kind: str, what: str, folder: Path) -> tuple[str, str] | None:
    """Keys of a kind that must not be accepted."""
    if what == "no key":
        return None
    other = folder / "other"
    keys.new(other, keys.BROKER, "")
    _, secret = keys.new(other, kind, "stranger")
    if what == "an unlisted key":
        return str(secret), keyed.broker_key
    accepted, _ = keyed.new(kind, f"{kind}-{folder.name}")
    return accepted, str(keys.public_file(other, keys.BROKER, ""))


@pytest.mark.fault(66)
@pytest.mark.parametrize("what", list(REFUSED))
def test_a_client_is_refused_and_no_byte_of_its_call_processed(keyed: Keyed, what: str, tmp_path: Path) -> None:
    files = wrong_files(keyed, "client", what, tmp_path)
    seen = len(keyed.broker_log())
    before = sum(samples(keyed.cluster.http, "zerorpc_broker_requests_total").values())
    client = keyed.client(files, timeout=2, heartbeat=None)
    begin_s = time.monotonic()
    with pytest.raises(zerorpc.TimeoutExpired):
        client.iris_model_predict(FLOWER)
    assert time.monotonic() - begin_s < 10
    client.close()
    wait_until(lambda: REFUSED[what] in keyed.broker_log()[seen:], 5, "the broker says why")
    assert sum(samples(keyed.cluster.http, "zerorpc_broker_requests_total").values()) == before


@pytest.mark.fault(66)
@pytest.mark.parametrize("what", list(REFUSED))
def test_a_worker_is_refused_and_never_registers(keyed: Keyed, what: str, tmp_path: Path) -> None:
    files = wrong_files(keyed, "worker", what, tmp_path)
    seen = len(keyed.broker_log())
    begin_s = time.monotonic()
    start = keyed.cluster.start_worker if files is None else partial(keyed.start_worker, files=files)
    worker = start("SleeperOnly")
    http = keyed.cluster.worker_http[worker.pid]
    wait_until(lambda: "not registered with the broker" in get(http, "/readyz")[1], 30, "it has loaded its model")
    wait_until(lambda: REFUSED[what] in keyed.broker_log()[seen:], 5, "the broker says why")
    assert time.monotonic() - begin_s < 30
    assert worker.pid not in [one["pid"] for one in keyed.cluster.workers()]
    assert "sleeper" not in str(get(keyed.cluster.http, "/workers"))
    worker.end()


def test_our_client_says_why_it_is_refused(keyed: Keyed, tmp_path: Path) -> None:
    files = wrong_files(keyed, "client", "an unlisted key", tmp_path)
    assert files is not None
    for options, says in (
        (Options(keys=Keys.read(*files), timeout_s=1), "in the handshake: it may not accept the key of this client"),
        (Options(retries=0), "the peer uses the mechanism b'CURVE'; this end uses b'NULL'"),
    ):
        with Client(keyed.cluster.frontend, options) as client, pytest.raises(ClientError, match=says) as caught:
            client.iris_model_predict(FLOWER)
        assert caught.value.not_executed


@pytest.mark.fault(66)
def test_a_revoked_client_is_cut_off_within_a_second_and_others_go_on(keyed: Keyed, billing: tuple[str, str]) -> None:
    leaving = keyed.client(keyed.admit("client", "leaving"), heartbeat=1)
    staying = keyed.client(billing, heartbeat=1)
    assert leaving.iris_model_predict(FLOWER) == staying.iris_model_predict(FLOWER) == SETOSA
    begin_s = time.monotonic()
    keyed.revoke("client", "leaving")
    wait_until(lambda: "1 connections of clients were closed" in keyed.broker_log(), 5, "it is cut off")
    assert time.monotonic() - begin_s < SOON_S
    assert "revoked: leaving" in keyed.broker_log()
    with pytest.raises((zerorpc.LostRemote, zerorpc.TimeoutExpired)):
        leaving.iris_model_predict(FLOWER, timeout=1)
    assert staying.iris_model_predict(FLOWER) == SETOSA


@pytest.mark.fault(66)
def test_a_revoked_worker_is_cut_off_within_a_second(keyed: Keyed) -> None:
    worker = keyed.start_worker("SleeperOnly", keyed.new("worker", "leaving"))
    keyed.cluster.wait_for_workers(4)
    (row,) = [one for one in keyed.cluster.workers() if one["pid"] == worker.pid]
    assert row["key"] == "leaving"
    begin_s = time.monotonic()
    keyed.revoke("worker", "leaving")
    keyed.cluster.wait_for_workers(3)
    assert time.monotonic() - begin_s < 2 * SOON_S  # /workers is asked every now and then
    worker.end()


def test_an_administrator_needs_a_key_of_its_own(tmp_path: Path) -> None:
    with keyed_cluster(tmp_path, "LightIris", BROKER_ADMIN_KEYS=str(tmp_path / "keys" / "admins")) as made:
        secret, broker_key = made.admit("admin", "oncall")

        def listed(*given: str, what: str = "list") -> str:
            command = [sys.executable, "scripts/models.py", "--address", made.cluster.admin, *given, what]
            done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
            return done.stdout + done.stderr

        assert "iris_model" in listed("--secret", secret, "--broker-key", broker_key)
        assert made.client(made.admit("client", "caller")).get_models()
        clients = listed("--secret", secret, "--broker-key", broker_key, what="clients")
        assert [line.split() for line in clients.splitlines()] == [
            ["client", "open", "calls", "requests", "may", "call"],
            ["caller", "0", "1", "everything"],
        ]
        assert listed("--secret", secret) == "error: --secret and --broker-key belong together\n"


ACCESS = """
[clients.reader]
allow = [{}]
"""


def test_access_rules_are_read_again_and_broken_ones_change_nothing(tmp_path: Path) -> None:
    file = tmp_path / "access.toml"
    file.write_text(ACCESS.format('"counter"'))
    with keyed_cluster(tmp_path, "LightIris", "CounterOnly", BROKER_ACCESS=str(file)) as made:
        reader = made.client(made.admit("client", "reader"))
        not_allowed = "client 'reader' may not call 'iris_model_predict'"
        assert list(reader.counter_predict_stream(2)) == [0, 1]
        assert "iris_model" not in str(reader.get_models()) + str(reader._zerorpc_inspect())
        with pytest.raises(zerorpc.RemoteError, match=not_allowed) as refused:
            reader.iris_model_predict(FLOWER)
        assert refused.value.name == "NotAllowed"
        file.write_text(ACCESS.format('"iris_model"'))
        wait_until(lambda: "are in force" in made.broker_log(), SOON_S, "the new rules are read")
        assert reader.iris_model_predict(FLOWER) == SETOSA
        file.write_text("[clients.reader]\nallow = 5\n")
        text = "clients.reader.allow=5 is wrong"
        wait_until(lambda: text in made.broker_log(), SOON_S, "the log says what is wrong")
        assert "; the rules before it stay in force" in made.broker_log()
        assert reader.iris_model_predict(FLOWER) == SETOSA
        assert samples(made.cluster.http, "zerorpc_broker_access_file_failures_total") == {(): 1.0}


def test_one_port_may_have_keys_and_the_other_none(tmp_path: Path) -> None:
    made = Keyed(tmp_path)
    try:
        made.start_broker(BROKER_WORKER_KEYS="")
        made.cluster.start_worker("LightIris")
        made.cluster.wait_for_workers(1)
        assert made.client(made.admit("client", "any")).iris_model_predict(FLOWER) == SETOSA
    finally:
        made.close()


def test_a_star_accepts_any_key(tmp_path: Path) -> None:
    made = Keyed(tmp_path)
    try:
        made.start_broker(BROKER_CLIENT_KEYS="*", BROKER_WORKER_KEYS="*")
        worker = made.new("worker", "w")
        made.start_worker("LightIris", worker)
        made.cluster.wait_for_workers(1)
        assert made.client(worker).iris_model_predict(FLOWER) == SETOSA
        assert requests_of(made, "anonymous") == 1
    finally:
        made.close()


def test_a_broker_that_others_reach_without_keys_says_so_once(tmp_path: Path) -> None:
    made = Keyed(tmp_path)
    try:
        address = made.cluster.frontend.replace("127.0.0.1", "0.0.0.0")
        made.cluster.start_broker(BROKER_FRONTEND=address)
        warning = "BROKER_FRONTEND can be reached by other machines and has no keys"
        wait_until(lambda: warning in made.broker_log(), 5, "it warns")
        assert made.broker_log().count(warning) == 1
    finally:
        made.close()


def test_make_up_makes_keys_and_predicts_with_them(make: Made) -> None:
    printed = make("up", SECURE="1", WORKERS="1")
    assert "new keys:" in printed
    assert "{'species': 'setosa'}" in printed.splitlines()
    folder = make.run_folder / "keys"
    secrets = list(folder.rglob("*.key_secret"))
    assert len(secrets) == 3
    assert {file.stat().st_mode & 0o777 for file in folder.rglob("*.key*")} == {0o600}
    assert "new keys:" not in make("up", SECURE="1"), "it is safe to repeat"
    assert "{'species': 'setosa'}" in make("up").splitlines(), "a cluster that runs with keys is called with keys"
    (line,) = [line for line in printed.splitlines() if line.startswith("clients:")]
    command = line.partition("(try: ")[2].rstrip(")").split()
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True)
    assert "iris_model_predict" in done.stdout
    make("down")
