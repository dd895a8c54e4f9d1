"""Turns an instance of a model's class into a `LoadedModel`: reads its metadata and adapts its methods.

A model is derived from `ml_model_abc.MLModel`, or from `ml_base.MLModel`, whose version is one string and whose schemas
are pydantic classes.
"""

from collections.abc import Callable
from typing import Any

from ml_model_abc import MLModel, MLModelSchemaValidationException
from pydantic import BaseModel, ValidationError

from cluster.runtime.settings import ConfigError
from cluster.wire.protocol import ModelDescription, ProcedureDescription
from cluster.wire.texts import MAX_NAME_LENGTH, is_name, to_line, to_text
from worker.models.entry import ModelEntry
from worker.models.examples import run_examples
from worker.models.gevent_checks import check_process
from worker.models.json_schema import to_json_schema
from worker.models.loaded_model import BatchResultError, LoadedModel

DEFAULT_MAX_BATCH_SIZE = 128
"""Most calls of a batch, for a model that has `predict_batch`."""


def adapt(entry: ModelEntry, model: Any) -> LoadedModel:
    """Warm a model up, describe it, and adapt its methods.

    Args:
        entry: what the model was loaded from.
        model: the instance.

    Raises:
        ConfigError: if its qualified name is not an identifier, or its version cannot be read.
        Exception: whatever its `warm_up` raises.
    """
    warm_up = getattr(model, "warm_up", None)
    if callable(warm_up):
        warm_up()
    check_process(entry, model)
    name = model.qualified_name
    if not isinstance(name, str) or not is_name(name) or name.startswith("_"):
        raise ConfigError(
            f"{entry.label}: the qualified name {name!r} should be an identifier that does not start with '_', "
            f"of at most {MAX_NAME_LENGTH} characters, because procedures are named after it"
        )
    major_version, minor_version = _version(entry, model)
    predict = model.predict if isinstance(model, MLModel) else _predict_of_ml_base(model)
    predict_batch = _predict_batch(model)
    predict_stream = getattr(model, "predict_stream", None)
    if not callable(predict_stream):
        predict_stream = None
    default_batch_size = 1 if predict_batch is None else DEFAULT_MAX_BATCH_SIZE
    input_schema = to_json_schema(lambda: model.input_schema, f"{name}_input")
    example_inputs = getattr(model, "input_examples", None) or input_schema.get("examples", ())
    description = ModelDescription(
        display_name=to_line(str(model.display_name)),
        qualified_name=name,
        description=to_text(str(model.description)),
        major_version=major_version,
        minor_version=minor_version,
        input_schema=input_schema,
        output_schema=to_json_schema(lambda: model.output_schema, f"{name}_output"),
        slots=entry.slots,
        retry=entry.retry,
        timeout_s=entry.timeout_s,
        max_batch_size=default_batch_size if entry.max_batch_size is None else entry.max_batch_size,
        batch_wait_ms=entry.batch_wait_ms,
        batches_ahead=entry.batches_ahead,
        max_streams=entry.max_streams,
        examples=run_examples(example_inputs, predict, name),
        procedures=_procedures(name, to_line(str(model.display_name)), "rows" if predict_stream is None else "data"),
        entry=entry.model_dump(exclude_unset=True),
    )
    return LoadedModel(description, predict, predict_batch, predict_stream)


def _procedures(name: str, title: str, streamed: str) -> list[ProcedureDescription]:
    """The procedures of a model; `streamed` names the parameter of its stream."""
    return [
        ProcedureDescription(f"{name}_predict", f"Predict with the {title}.", ["data"]),
        ProcedureDescription(
            f"{name}_predict_batch",
            f"Predict many rows with the {title}: a list, in their order.",
            ["rows"],
            is_list=True,
        ),
        ProcedureDescription(
            f"{name}_predict_stream",
            f"Stream what the {title} predicts, as soon as it is there.",
            [streamed],
            is_stream=True,
        ),
    ]


def _version(entry: ModelEntry, model: Any) -> tuple[int, int]:
    if isinstance(model, MLModel):
        return int(model.major_version), int(model.minor_version)
    parts = str(model.version).split(".")  # ml_base: "major.minor.patch"
    if len(parts) < 2 or not all(part.isdecimal() for part in parts[:2]):
        raise ConfigError(f"{entry.label}: the version {model.version!r} should start with major.minor")
    return int(parts[0]), int(parts[1])


def _predict_batch(model: Any) -> Callable[[list[Any]], list[Any]] | None:
    """The model's own `predict_batch`, with a check of what it returns.

    None for a model of the ml-base package: its rows are validated one by one.
    """
    function = getattr(model, "predict_batch", None)
    if not isinstance(model, MLModel) or not callable(function):
        return None

    def predict_batch(rows: list[Any]) -> list[Any]:
        count = len(rows)  # before the model changes the list
        returned = function(rows)
        outputs = _as_list(returned)
        if outputs is None:
            raise BatchResultError(
                TypeError(
                    f"predict_batch returned a value of type {type(returned).__name__!r} for {count} rows: "
                    "it should return a list, a tuple or an array with one output for each row"
                )
            )
        if len(outputs) != count:
            raise BatchResultError(ValueError(f"predict_batch returned {len(outputs)} outputs for {count} rows"))
        return outputs

    return predict_batch


def _as_list(outputs: Any) -> list[Any] | None:
    """The outputs of a batch: a list, a tuple, or what has `tolist` (arrays, pandas' Series); else None."""
    if isinstance(outputs, (list, tuple)):
        return list(outputs)
    if hasattr(outputs, "tolist"):
        outputs = outputs.tolist()
        return outputs if isinstance(outputs, list) else None
    return None


def _predict_of_ml_base(model: Any) -> Callable[[Any], Any]:
    """The predict of a model whose schemas are pydantic classes, from plain values to plain values."""
    schema = model.input_schema
    takes_pydantic = isinstance(schema, type) and issubclass(schema, BaseModel)

    def predict(data: Any) -> Any:
        if takes_pydantic:
            try:
                data = schema.model_validate(data)
            except ValidationError as error:
                wrong = "; ".join(
                    f"Key {'.'.join(str(part) for part in one['loc'])!r} error: {one['msg']}" for one in error.errors()
                )
                raise MLModelSchemaValidationException(f"Failed to validate input data: {wrong}") from error
        result = model.predict(data)
        return result.model_dump(mode="json") if isinstance(result, BaseModel) else result

    return predict
