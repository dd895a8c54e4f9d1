"""MLServer: mlserver start bench/peers/mlserver, with settings such as MLSERVER_HTTP_PORT in the environment."""

import numpy as np
from iris_model import iris_files
from iris_model.iris_predict import SPECIES
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse


class IrisRuntime(MLModel):  # type: ignore[misc]
    """The iris model as an MLServer runtime: from a tensor of measurements to a tensor of names."""

    async def load(self) -> bool:
        """Load the model in a worker."""
        self._estimator = iris_files.load()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Predict all rows of the tensor. With batches on, MLServer joins the rows of several requests."""
        measurements: np.ndarray = NumpyCodec.decode_input(payload.inputs[0])
        species = [SPECIES[number] for number in self._estimator.predict(measurements).tolist()]
        output = StringCodec.encode_output("species", species)
        return InferenceResponse(model_name=self.name, outputs=[output])
