"""An ONNX model, run by onnxruntime: recognizes the digit in a picture of 8 by 8 pixels. `digits_train` makes it."""

from pathlib import Path
from typing import Any

from ml_model_abc import MLModel, MLModelException, MLModelSchemaValidationException
from schema import And, Or, Schema, SchemaError

SAVED = Path(__file__).with_name("digits.onnx")

SIDE = 8
WHITE = 16

_pixel: Any = And(Or(int, float), lambda pixel: 0 <= pixel <= WHITE)
_row: Any = And([_pixel], lambda row: len(row) == SIDE)

_THREE = (
    (0, 0, 7, 15, 13, 1, 0, 0),
    (0, 8, 13, 6, 15, 4, 0, 0),
    (0, 2, 1, 13, 13, 0, 0, 0),
    (0, 0, 2, 15, 11, 1, 0, 0),
    (0, 0, 0, 1, 12, 12, 1, 0),
    (0, 0, 0, 0, 1, 10, 8, 0),
    (0, 0, 8, 4, 5, 14, 9, 0),
    (0, 0, 7, 13, 13, 9, 0, 0),
)


class DigitModel(MLModel):
    """Recognizes digits."""

    display_name = "Digit Model"
    qualified_name = "digit_model"
    description = "Tells which digit a picture of eight by eight pixels shows."
    major_version = 0
    minor_version = 1
    input_schema = Schema({"pixels": And([_row], lambda rows: len(rows) == SIDE)})
    output_schema = Schema({"digit": int, "probability": float})
    input_examples = ({"pixels": [list(row) for row in _THREE]},)

    def __init__(self) -> None:
        """Load the graph. onnxruntime gets one thread, because a cluster scales by the number of its workers."""
        import onnxruntime

        if not SAVED.exists():
            raise MLModelException(f"the file {SAVED} is missing: run digits_train to make it")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(SAVED, options, providers=["CPUExecutionProvider"])

    def predict(self, data: Any) -> dict[str, Any]:
        """Recognize the digit of one picture.

        Raises:
            MLModelSchemaValidationException: if the picture is not 8 rows of 8 pixels from 0 to 16.
        """
        return self._digits([_pixels(data)])[0]

    def predict_batch(self, rows: list[Any]) -> list[Any]:
        """Recognize the digits of several pictures. Each wrong picture gets its own exception."""
        outputs: list[Any] = []
        for row in rows:
            try:
                outputs.append(_pixels(row))
            except MLModelSchemaValidationException as error:
                outputs.append(error)
        pictures = [output for output in outputs if isinstance(output, list)]
        digits = iter(self._digits(pictures) if pictures else [])
        return [next(digits) if isinstance(output, list) else output for output in outputs]

    def _digits(self, pictures: list[list[float]]) -> list[dict[str, Any]]:
        import numpy as np

        (probabilities,) = self._session.run(["probabilities"], {"pixels": np.array(pictures, np.float32)})
        best = probabilities.argmax(axis=1)
        return [
            {"digit": int(digit), "probability": float(row[digit])}
            for row, digit in zip(probabilities, best, strict=True)
        ]


def _pixels(data: Any) -> list[float]:
    """Check a picture, and return its 64 pixels row by row."""
    try:
        DigitModel.input_schema.validate(data)
    except SchemaError as error:
        raise MLModelSchemaValidationException(f"Failed to validate input data: {error}") from error
    return [pixel for row in data["pixels"] for pixel in row]
