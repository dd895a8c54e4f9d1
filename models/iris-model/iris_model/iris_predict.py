"""The iris model as the cluster hosts it."""

from math import isfinite
from typing import Any

from ml_model_abc import MLModel, MLModelSchemaValidationException
from schema import Or, Schema, SchemaError

from iris_model import iris_files

_KEYS = ("sepal_length", "sepal_width", "petal_length", "petal_width")

SPECIES = ("setosa", "versicolor", "virginica")
"""The names of the numbers that the estimator predicts."""


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
    input_examples = (
        {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2},
        {"sepal_length": 6.7, "sepal_width": 3.0, "petal_length": 5.2, "petal_width": 2.3},
    )

    def __init__(self) -> None:
        """Load the estimator that `iris_train` saved."""
        self._estimator = iris_files.load()

    def predict(self, data: Any) -> dict[str, str]:
        """Predict the species.

        Args:
            data: `sepal_length`, `sepal_width`, `petal_length` and `petal_width` in centimetres, all float.

        Raises:
            MLModelSchemaValidationException: if a measurement is missing, unknown or not a float.
        """
        return self._species([_measurements(data)])[0]

    def predict_batch(self, rows: list[Any]) -> list[dict[str, str] | Exception]:
        """Predict the species of several flowers, in one call of the estimator.

        Args:
            rows: each as `predict` takes it.

        Returns:
            For each row what `predict` returns, or the exception that it raises.
        """
        outputs: list[Any] = []
        measurements = []
        for row in rows:
            try:
                measured = _measurements(row)
                if isfinite(sum(measured)):
                    measurements.append(measured)
                    outputs.append(None)
                else:  # the estimator may refuse this row, which must not fail the others
                    outputs.append(self._species([measured])[0])
            except (MLModelSchemaValidationException, ValueError) as error:
                outputs.append(error)
        if measurements:
            species = iter(self._species(measurements))
            outputs = [next(species) if output is None else output for output in outputs]
        return outputs

    def _species(self, measurements: list[list[float]]) -> list[dict[str, str]]:
        return [{"species": SPECIES[number]} for number in self._estimator.predict(measurements).tolist()]


def _measurements(data: Any) -> list[float]:
    """The four measurements of a row, in the estimator's order.

    The checks here take a hundredth of the time of `input_schema`. Only a row that fails them is validated by the
    schema, which then makes the text of the error.
    """
    if type(data) is dict and len(data) == len(_KEYS):
        try:
            row = [data[key] for key in _KEYS]
        except KeyError:
            pass
        else:
            if type(row[0]) is type(row[1]) is type(row[2]) is type(row[3]) is float:
                return row
    try:
        IrisModel.input_schema.validate(data)
    except SchemaError as error:
        raise MLModelSchemaValidationException(f"Failed to validate input data: {error}") from error
    return [data[key] for key in _KEYS]
