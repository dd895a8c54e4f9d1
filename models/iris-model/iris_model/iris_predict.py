"""The iris model as the cluster hosts it."""

from typing import Any

from ml_model_abc import MLModel, MLModelSchemaValidationException
from schema import Or, Schema, SchemaError

from iris_model import iris_files

SPECIES = ("setosa", "versicolor", "virginica")
"""By the number that the estimator predicts."""


class IrisModel(MLModel):
    """Predicts the species of an iris from four measurements in centimetres."""

    display_name = "Iris Model"
    qualified_name = "iris_model"
    description = "A machine learning model for predicting the species of a flower based on its measurements."
    major_version = 0
    minor_version = 1
    input_schema = Schema(
        {
            "sepal_length": float,
            "sepal_width": float,
            "petal_length": float,
            "petal_width": float,
        }
    )
    output_schema = Schema({"species": Or(*SPECIES)})

    def __init__(self) -> None:
        """Load the estimator that `iris_train` saved."""
        self._estimator = iris_files.load()

    def predict(self, data: Any) -> dict[str, str]:
        """Predict the species.

        Args:
            data: `sepal_length`, `sepal_width`, `petal_length` and `petal_width` in centimetres, all float.

        Raises:
            MLModelSchemaValidationException: if a measurement is missing, superfluous or no float.
        """
        try:
            self.input_schema.validate(data)
        except SchemaError as error:
            raise MLModelSchemaValidationException(f"Failed to validate input data: {error}") from error
        row = [data["sepal_length"], data["sepal_width"], data["petal_length"], data["petal_width"]]
        return {"species": SPECIES[int(self._estimator.predict([row])[0])]}
