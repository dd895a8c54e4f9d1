"""The iris model without scikit-learn, for tests that only need some model of that name: it loads at once."""

from typing import Any

from ml_model_abc import MLModel


class LightIris(MLModel):
    """Version 0.1. Its answers depend on the length of the petals alone."""

    display_name = "Iris Model"
    qualified_name = "iris_model"
    description = "A stand-in for the iris model."
    major_version = 0
    minor_version = 1
    input_schema = None
    output_schema = None

    def __init__(self) -> None:
        pass

    def predict(self, data: Any) -> dict[str, str]:
        length = data["petal_length"]
        return {"species": "setosa" if length < 2.5 else "versicolor" if length < 4.9 else "virginica"}


class NextIris(LightIris):
    """Version 0.2. Its answers name the version."""

    minor_version = 2

    def predict(self, data: Any) -> dict[str, str]:
        return {**super().predict(data), "by": "0.2"}
