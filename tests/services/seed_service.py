"""The service as it began: one class on a plain `zerorpc.Server`, which hosts models and knows no broker.

    python -m tests.services.seed_service ADDRESS

It has `get_models`, `get_model_metadata` and one `<qualified_name>_predict` for each model. The one line that it needs
to be a worker of the cluster is `connect` in place of `bind`.
"""

import sys
from typing import Any

import zerorpc
from iris_model.iris_predict import IrisModel
from ml_model_abc import MLModel
from schema import Schema


class PredictCallable:
    """Predicts with a model, and hands its exceptions to the caller."""

    def __init__(self, model: MLModel) -> None:
        self._model = model
        self.__name__ = f"{model.qualified_name}_predict"
        self.__doc__ = f"Predict with the model {model.qualified_name!r}."

    def __call__(self, data: Any) -> Any:
        return self._model.predict(data)


class ModelZeroRPCService:
    """Offers models."""

    def __init__(self, models: list[MLModel]) -> None:
        self._models = {model.qualified_name: model for model in models}
        for name, model in self._models.items():
            setattr(self, f"{name}_predict", PredictCallable(model))

    def get_models(self) -> list[dict[str, Any]]:
        """Return the models of this service."""
        return [self._describe(model) for model in self._models.values()]

    def get_model_metadata(self, qualified_name: str) -> dict[str, Any]:
        """Return what is known about a model."""
        model = self._models.get(qualified_name)
        if model is None:
            raise ValueError("Metadata not found for this model.")
        return {
            **self._describe(model),
            "input_schema": self._json_schema(model.input_schema),
            "output_schema": self._json_schema(model.output_schema),
        }

    @staticmethod
    def _json_schema(schema: Schema | None) -> dict[str, Any] | None:
        return None if schema is None else dict(schema.json_schema("https://example.com/model.json"))

    @staticmethod
    def _describe(model: MLModel) -> dict[str, Any]:
        return {
            "display_name": model.display_name,
            "qualified_name": model.qualified_name,
            "description": model.description,
            "major_version": model.major_version,
            "minor_version": model.minor_version,
        }


def main(address: str) -> None:
    server = zerorpc.Server(ModelZeroRPCService([IrisModel()]))
    server.connect(address)
    server.run()


if __name__ == "__main__":
    main(sys.argv[1])
