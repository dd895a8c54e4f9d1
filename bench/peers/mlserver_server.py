"""MLServer: mlserver start bench/peers/mlserver, with settings such as MLSERVER_HTTP_PORT in the environment.

BENCH_MODEL names the model.
"""

import os

import numpy as np
import peer_models
from iris_model import iris_files
from iris_model.iris_predict import SPECIES
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

MODEL = os.environ["BENCH_MODEL"]


class ModelRuntime(MLModel):  # type: ignore[misc]
    """The model as an MLServer runtime. Rows of the iris model are a tensor of measurements."""

    async def load(self) -> bool:
        """Load the model in a worker."""
        self._model = iris_files.load() if MODEL in ("row", "rows") else peer_models.load()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Predict all rows of the tensor. With batches on, MLServer joins the rows of several requests."""
        if MODEL in ("row", "rows"):
            measurements: np.ndarray = NumpyCodec.decode_input(payload.inputs[0])
            answers = [SPECIES[number] for number in self._model.predict(measurements).tolist()]
        elif MODEL == "tensor":
            data = payload.inputs[0].data.root[0]
            answers = [str(self._model.predict({"data": data}))]
        else:
            answers = [self._model.predict(None)]
        return InferenceResponse(model_name=self.name, outputs=[StringCodec.encode_output("answers", answers)])
