"""BentoML: bentoml serve bentoml_server:IrisService, with BENCH_BATCH as the largest batch."""

import os

import bentoml
from iris import Iris

BATCH = int(os.environ["BENCH_BATCH"])


@bentoml.service(workers=2)
class IrisService:
    """The iris model as a BentoML service."""

    def __init__(self) -> None:
        self._iris = Iris()

    # BentoML requires max_batch_size of 2 or more, even if batchable is false.
    @bentoml.api(  # type: ignore[untyped-decorator]
        route="/predict", batchable=BATCH > 1, max_batch_size=max(BATCH, 2), max_latency_ms=10_000
    )
    def predict(self, rows: list[dict[str, float]]) -> list[dict[str, str]]:
        """Predict rows. A request has one row; with batches on, BentoML joins the rows of several requests."""
        species: list[dict[str, str]] = self._iris.predict_batch(rows)
        return species
