"""MLServer: mlserver start bench/peers/mlserver, with MLSERVER_HTTP_PORT and the like in the environment."""

import numpy as np
from iris_model import iris_files
from iris_model.iris_predict import SPECIES
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse


class IrisRuntime(MLModel):  # type: ignore[misc]
    """The model as MLServer wants it: a tensor of measurements to a tensor of names."""

    async def load(self) -> bool:
        """Load the model in each worker."""
        self._estimator = iris_files.load()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """As many rows as the tensor has; MLServer puts those of several requests together if batching is on."""
        measurements: np.ndarray = NumpyCodec.decode_input(payload.inputs[0])
        species = [SPECIES[number] for number in self._estimator.predict(measurements).tolist()]
        output = StringCodec.encode_output("species", species)
        return InferenceResponse(model_name=self.name, outputs=[output])
