"""A loaded model in the one form in which jobs use it, whichever library it was written for."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from cluster.wire.protocol import ModelDescription


class BatchResultError(Exception):
    """`predict_batch` has returned something else than one output for each row.

    Attributes:
        error: what the caller of each row gets.
    """

    def __init__(self, error: TypeError | ValueError) -> None:
        super().__init__(error)
        self.error = error


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A loaded model.

    Attributes:
        description: the model's metadata and settings, as the broker gets them.
        predict: takes one plain value and returns another.
        predict_batch: takes a list of values, which it may change, and returns as many, some of which may be
            exceptions; raises `BatchResultError`. None if the model has no such method.
        predict_stream: takes one plain value and yields any number; None if the model has no such method.
    """

    description: ModelDescription
    predict: Callable[[Any], Any]
    predict_batch: Callable[[list[Any]], list[Any]] | None = None
    predict_stream: Callable[[Any], Iterable[Any]] | None = None
