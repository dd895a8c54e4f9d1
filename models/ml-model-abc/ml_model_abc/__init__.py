"""The base class of a model that the cluster can host, and the exceptions that a model raises."""

from abc import ABC, abstractmethod
from typing import Any

from schema import Schema

__all__ = ["MLModel", "MLModelException", "MLModelSchemaValidationException"]


class MLModel(ABC):
    """A model: metadata, schemas and `predict`. A worker process makes one instance when it loads the model.

    A subclass may also have

    - `predict_batch(rows)`, which takes a list of inputs and returns a list of outputs in the same order;
    - `predict_stream(data)`, a generator of any number of outputs from one input;
    - `warm_up()`, which a worker calls once, after the constructor and before the first call;
    - `input_examples`, a list of inputs that show what `predict` takes.
    """

    @property
    @abstractmethod
    def display_name(self) -> str:
        """A name for people."""

    @property
    @abstractmethod
    def qualified_name(self) -> str:
        """A name for programs, unique in the cluster. An identifier, because procedures are named after it."""

    @property
    @abstractmethod
    def description(self) -> str:
        """A sentence about what the model does."""

    @property
    @abstractmethod
    def major_version(self) -> int:
        """Increased when callers have to change."""

    @property
    @abstractmethod
    def minor_version(self) -> int:
        """Increased with every other change."""

    @property
    @abstractmethod
    def input_schema(self) -> Schema | None:
        """The schema of the input of `predict`; None if `predict` accepts anything."""

    @property
    @abstractmethod
    def output_schema(self) -> Schema | None:
        """The schema of the output of `predict`; None if it is not specified."""

    @abstractmethod
    def __init__(self) -> None:
        """Load whatever `predict` needs. Takes no arguments."""

    @abstractmethod
    def predict(self, data: Any) -> Any:
        """Predict from one input.

        Args:
            data: plain values as msgpack carries them, in the shape of `input_schema`.

        Returns:
            Plain values, in the shape of `output_schema`.

        Raises:
            MLModelSchemaValidationException: if the input does not fit the schema.
            MLModelException: if the prediction fails for another reason; its text reaches the caller.
        """


class MLModelException(Exception):  # noqa: N818
    """A failure of a model; its class name and text reach the caller."""


class MLModelSchemaValidationException(MLModelException):
    """The input does not fit the model's schema."""
