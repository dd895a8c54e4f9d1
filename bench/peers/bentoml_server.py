"""BentoML: bentoml serve bentoml_server:IrisService, with BENCH_BATCH as the largest batch."""

import os

import bentoml
from iris import Iris

BATCH = int(os.environ["BENCH_BATCH"])


@bentoml.service(workers=2)
class IrisService:
    """The model as BentoML wants it."""

    def __init__(self) -> None:
        self._iris = Iris()

    # BentoML demands 2 or more, even without batching.
    @bentoml.api(  # type: ignore[untyped-decorator]
        route="/predict", batchable=BATCH > 1, max_batch_size=max(BATCH, 2), max_latency_ms=10_000
    )
    def predict(self, rows: list[dict[str, float]]) -> list[dict[str, str]]:
        """Rows; a request has one, and BentoML puts those of several together if batching is on."""
        species: list[dict[str, str]] = self._iris.predict_batch(rows)
        return species
