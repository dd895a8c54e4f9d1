"""Many clients at once: every answer is right, the workers share the work, and the counts agree."""

import json
import subprocess
import sys
from pathlib import Path

from iris_model.iris_predict import SPECIES
from iris_model.iris_train import train
from sklearn.datasets import load_iris

from tests.processes import REPOSITORY, cluster, samples, total

CLIENTS = 8
CALLS = 10_000
FIELDS = ("sepal_length", "sepal_width", "petal_length", "petal_width")


def test_10000_predictions_of_8_processes(tmp_path: Path) -> None:
    data = load_iris().data
    rows = [dict(zip(FIELDS, row, strict=True)) for row in data.tolist()]
    expected = json.dumps([[row, SPECIES[i]] for row, i in zip(rows, train().predict(data), strict=True)])
    with cluster(tmp_path, None, None) as made:
        command = [sys.executable, "-m", "tests.services.predict_many", made.frontend, str(CALLS // CLIENTS)]
        processes = [
            subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(CLIENTS)
        ]
        try:
            for process in processes:
                assert process.stdin is not None
                process.stdin.write(expected)
                process.stdin.close()
            results = []
            for process in processes:
                assert process.stdout is not None
                results.append(json.loads(process.stdout.read().splitlines()[-1]))
        finally:
            for process in processes:
                process.kill()
                process.wait()
                assert process.stdout is not None
                process.stdout.close()

        assert results == [{"calls": CALLS // CLIENTS, "wrong": 0}] * CLIENTS
        name = "zerorpc_broker_requests_total"
        assert total(made.http, name, method="iris_model_predict", outcome="ok") == CALLS
        assert total(made.http, name, method="iris_model_predict") == CALLS, "and none ended otherwise"
        assert total(made.http, name) == CALLS + CLIENTS, "one get_models of each client"
        dispatched = samples(made.http, "zerorpc_broker_dispatched_total").values()
        assert sum(dispatched) == CALLS
        # Load follows work, not turns: a worker that the machine slows down gets less. An idle machine gave 0.42.
        assert all(share >= 0.25 * CALLS for share in dispatched), list(dispatched)
        done = [
            total(address, "zerorpc_worker_predictions_total", model="iris_model", outcome="ok")
            for address in made.worker_http.values()
        ]
        assert sorted(done) == sorted(dispatched), "each worker counted what it was given"
        assert total(made.http, "zerorpc_broker_open_channels") == 0
        assert made.in_flight() == 0
