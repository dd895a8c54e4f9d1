"""BentoML: bentoml serve bentoml_server:ModelService. BENCH_MODEL names the model, BENCH_BATCH the largest batch."""

import json
import os
from collections.abc import Generator
from typing import Any

import bentoml
import peer_models

BATCH = int(os.environ["BENCH_BATCH"])
MODEL = os.environ["BENCH_MODEL"]


@bentoml.service(workers=2)
class ModelService:
    """The model as a BentoML service."""

    def __init__(self) -> None:
        self._model = peer_models.load()

    if MODEL == "row":
        # BentoML requires max_batch_size of 2 or more, even if batchable is false.
        @bentoml.api(  # type: ignore[untyped-decorator]
            route="/predict", batchable=BATCH > 1, max_batch_size=max(BATCH, 2), max_latency_ms=10_000
        )
        def predict(self, rows: list[dict[str, float]]) -> list[dict[str, str]]:
            """Predict rows. A request has one row; with batches on, BentoML joins the rows of several requests."""
            species: list[dict[str, str]] = self._model.predict_batch(rows)
            return species

    elif MODEL == "tensor":

        @bentoml.api(route="/predict")  # type: ignore[untyped-decorator]
        def predict_tensor(self, data: str) -> float:
            """Predict a tensor in base64."""
            mean: float = self._model.predict({"data": data})
            return mean

    elif MODEL == "stream":

        @bentoml.api(route="/predict")  # type: ignore[untyped-decorator]
        def predict_stream(self, rows: list[int]) -> Generator[str, None, None]:
            """Answer with one line of JSON for each item."""
            for item in self._model.predict(rows):
                yield json.dumps(item) + "\n"

    else:

        @bentoml.api(route="/predict")  # type: ignore[untyped-decorator]
        def predict_other(self, rows: list[Any]) -> Any:
            """Predict what the request carries."""
            return self._model.predict(rows)
