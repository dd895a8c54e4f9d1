"""Answers of workers that no client could decode."""

from pathlib import Path

import msgpack
import pytest
import zerorpc

from tests.faults.attacks.attack import attack
from tests.faults.attacks.hostile_worker import hostile_worker, model
from tests.figures import Figure


@pytest.mark.alone
@pytest.mark.fault(57)
def test_a_result_of_130_mib_is_refused_and_the_client_goes_on(tmp_path: Path, figure: Figure) -> None:
    with attack(tmp_path, figure, "a result of 130 MiB") as made, hostile_worker(made.cluster.backend) as worker:
        worker.register([model("large")])
        worker.on_work = lambda number, event: worker.reply(number, msgpack.packb([{}, "OK", [bytes(130 << 20)]]))
        client = made.cluster.client()
        with pytest.raises(zerorpc.RemoteError) as raised:
            client.large_predict(None)
        assert (raised.value.name, raised.value.msg[:24]) == ("ResultTooLarge", "the worker's answer has ")
        assert [one["qualified_name"] for one in client.get_models()] == ["iris_model", "large"]
