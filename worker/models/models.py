"""Finds, checks and loads models: those that the configuration names, and others on order. Knows no socket."""

import importlib
import inspect
import json
import logging
import os
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgpack
from ml_model_abc import MLModel, MLModelSchemaValidationException
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails
from schema import Schema

from cluster.runtime.settings import ConfigError, expected_value
from cluster.wire.protocol import MAX_CAPACITY, ModelDescription, ModelKey, ProcedureDescription
from worker.models.values import plain

log = logging.getLogger(__name__)

DEFAULT_CONFIG = "ProdConfig"

MAX_EXAMPLES = 3
MAX_EXAMPLE_LENGTH = 4_000
"""Of a model, and of one of its examples with input and output, in characters."""

DEFAULT_MAX_BATCH_SIZE = 64
"""Of a model that has `predict_batch`."""


class ModelEntry(BaseModel):
    """One entry of a configuration's `models`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    module_name: str
    class_name: str
    slots: int = Field(1, ge=1, le=MAX_CAPACITY)
    retry: bool = True
    timeout_s: float = Field(300.0, gt=0, allow_inf_nan=False)
    max_batch_size: int | None = Field(None, ge=1)
    batch_wait_ms: float = Field(0.0, ge=0, allow_inf_nan=False)
    batches_ahead: int = Field(0, ge=0, le=MAX_CAPACITY)
    max_streams: int = Field(1000, ge=1, le=MAX_CAPACITY)


@dataclass(frozen=True, slots=True)
class HostedModel:
    """A loaded model.

    Attributes:
        description: what it says of itself, and how it is to be called.
        predict: from one plain value to another.
        predict_batch: from several at once to as many, some of which may be exceptions; None if it has no such method.
        predict_stream: from one plain value to any number, one after the other; None if it has no such method.
    """

    description: ModelDescription
    predict: Callable[[Any], Any]
    predict_batch: Callable[[list[Any]], list[Any]] | None = None
    predict_stream: Callable[[Any], Iterable[Any]] | None = None


class ModelManager:
    """The configured models of one worker process."""

    def __init__(self, entries: Iterable[ModelEntry], only: Collection[str] = ()) -> None:
        """Import the classes; `load` makes the models.

        Args:
            entries: of the configuration.
            only: qualified names of the models that this worker is to host (`WORKER_MODELS`); all, if there are none.

        Raises:
            ConfigError: if a module or class is missing, or is no model. Where only some models are wanted, the
                packages of others need not be installed.
        """
        self._found: list[tuple[ModelEntry, type[Any]]] = []
        names: list[str] = []
        missing: list[ConfigError] = []
        for entry in entries:
            try:
                found = _find_class(entry)
            except ConfigError as error:
                if not only:
                    raise
                missing.append(error)
                continue
            name = _name_of_class(found)
            names.append(name)
            if not only or name in only:
                self._found.append((entry, found))
        for name in only:
            if name not in names:
                others = f"; or it is one that cannot be loaded: {missing[0]}" if missing else ""
                raise ConfigError(
                    f"WORKER_MODELS={','.join(only)!r}: the configuration has no model {name!r}; "
                    f"there are {', '.join(names) or 'none'}{others}"
                )

    def load(self) -> list[HostedModel]:
        """Make every model, in the order of the configuration. This may take as long as the models take to load.

        Raises:
            ConfigError: if a model's metadata cannot be served, or two have one qualified name and one version.
            Exception: whatever a model's constructor raises.
        """
        made: list[HostedModel] = []
        owners: dict[ModelKey, ModelEntry] = {}
        for entry, model_class in self._found:
            hosted = _host(entry, model_class())
            name, version = key = hosted.description.key
            if key in owners:
                raise ConfigError(
                    f"{_where(entry)}: the qualified name {name!r} is already that of another entry, "
                    f"{_where(owners[key])}, of the same version {version}; drop one entry, rename one model, or give "
                    "it a version of its own"
                )
            owners[key] = entry
            made.append(hosted)
            log.info("loaded %s %s (%s)", name, version, _where(entry))
        return made


def load_anew(entry: ModelEntry) -> HostedModel:
    """Make a model from its code as it is on disk now, also where it was imported before.

    Then the modules of the package that its module is in are imported anew; models that are hosted already keep those
    that they came from. If it fails, everything imported is as it was.

    Raises:
        ConfigError: if a module or class is missing or is no model, or its metadata cannot be served.
        Exception: whatever the model's constructor raises.
    """
    package = entry.module_name.rpartition(".")[0] or entry.module_name
    if entry.module_name not in sys.modules or package.partition(".")[0] in _NEVER_ANEW:
        return _host(entry, _find_class(entry)())
    # Copies, because models that run may import something meanwhile.
    stale = {name: module for name, module in sys.modules.copy().items() if f"{name}.".startswith(f"{package}.")}
    for name in stale:
        del sys.modules[name]
    try:
        return _host(entry, _find_class(entry)())
    except BaseException:
        for name in [name for name in sys.modules.copy() if f"{name}.".startswith(f"{package}.")]:
            del sys.modules[name]
        sys.modules.update(stale)
        for name, module in stale.items():
            parent, _, child = name.rpartition(".")
            if parent in sys.modules:
                setattr(sys.modules[parent], child, module)
        raise


_NEVER_ANEW = frozenset({"worker", "cluster", "ml_model_abc", "ml_base"})
"""Packages of which there must be one only: what a model is, is known by a class of theirs."""


def read_entry(raw: object) -> ModelEntry:
    """Check an entry that did not come from the configuration.

    Raises:
        ConfigError: if it is none.
    """
    try:
        return ModelEntry.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"the entry{_entry_error(error.errors()[0])}") from error


def configured_entries(environ: Mapping[str, str] = os.environ) -> list[ModelEntry]:
    """The entries of the configuration class that `APP_SETTINGS` names.

    Raises:
        ConfigError: if there is no such class, or one of its entries is wrong.
    """
    config = _config_class(environ.get("APP_SETTINGS", DEFAULT_CONFIG))
    place = f"{config.__module__}.{config.__qualname__}.models"
    models = getattr(config, "models", None)
    if not isinstance(models, list) or not models:
        raise ConfigError(f"{place} should be a list of at least one entry")
    entries = []
    for position, entry in enumerate(models):
        try:
            entries.append(ModelEntry.model_validate(entry))
        except ValidationError as error:
            raise ConfigError(f"{place}[{position}]{_entry_error(error.errors()[0])}") from error
    return entries


def _entry_error(error: ErrorDetails) -> str:
    if not error["loc"]:
        return f"={error['input']!r}: an entry should be {expected_value(error)}"
    key = error["loc"][0]
    if error["type"] == "missing":
        return f" lacks {key!r}"
    if error["type"] == "extra_forbidden":
        return f": {key!r} is no setting of a model; there are {', '.join(ModelEntry.model_fields)}"
    return f": {key}={error['input']!r} is wrong: it should be {expected_value(error)}"


def _config_class(name: str) -> type:
    module_name, colon, class_name = name.rpartition(":")
    try:
        module = importlib.import_module(module_name if colon else "worker.config")
    except Exception as error:  # a mistake in the file may raise anything
        raise ConfigError(
            f"APP_SETTINGS={name!r}: {module_name or 'worker.config'} cannot be imported: "
            f"{type(error).__name__}: {error}"
        ) from error
    config = getattr(module, class_name, None)
    if not isinstance(config, type):
        known = [key for key, value in vars(module).items() if isinstance(value, type) and hasattr(value, "models")]
        raise ConfigError(f"APP_SETTINGS={name!r} is no configuration; there are {', '.join(known) or 'none'}")
    return config


def _where(entry: ModelEntry) -> str:
    return f"model {entry.module_name}.{entry.class_name}"


def _find_class(entry: ModelEntry) -> type[Any]:
    try:
        module = importlib.import_module(entry.module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{entry.module_name}.".startswith(f"{error.name}."):
            raise ConfigError(
                f"{_where(entry)}: there is no module {error.name!r}: install the model's package, "
                "or correct module_name in the configuration"
            ) from error
        raise ConfigError(f"{_where(entry)}: importing it failed: {error}: install what it needs") from error
    except Exception as error:
        raise ConfigError(
            f"{_where(entry)}: importing it failed: {type(error).__name__}: {error}: correct the module"
        ) from error
    found = getattr(module, entry.class_name, None)
    if found is None:
        raise ConfigError(
            f"{_where(entry)}: the module has no class {entry.class_name!r}: correct class_name in the configuration"
        )
    if not isinstance(found, type) or not issubclass(found, _model_bases()):
        raise ConfigError(f"{_where(entry)}: it is no MLModel: derive it from ml_model_abc.MLModel")
    if inspect.isabstract(found):
        absent = ", ".join(sorted(getattr(found, "__abstractmethods__", ())))
        raise ConfigError(f"{_where(entry)}: it is abstract: it should define {absent}")
    return found


def _name_of_class(model_class: type[Any]) -> str:
    """The qualified name, before there is a model: where it is a property, it must not need what a model loads."""
    name = inspect.getattr_static(model_class, "qualified_name", None)
    if isinstance(name, property):
        try:
            name = object.__new__(model_class).qualified_name
        except Exception:
            name = None
    return name if isinstance(name, str) else model_class.__name__


def _model_bases() -> tuple[type, ...]:
    # A model of the ml-base package has imported that package; this project does not depend on it.
    ml_base = sys.modules.get("ml_base")
    return (MLModel,) if ml_base is None else (MLModel, ml_base.MLModel)


def _host(entry: ModelEntry, model: Any) -> HostedModel:
    name = model.qualified_name
    if not isinstance(name, str) or not name.isidentifier() or name.startswith("_"):
        raise ConfigError(
            f"{_where(entry)}: the qualified name {name!r} should be an identifier that does not start with '_': "
            "a procedure is named after it"
        )
    major_version, minor_version = _version(entry, model)
    predict_batch = _predict_batch(model)
    max_batch_size = entry.max_batch_size
    if max_batch_size is None:
        max_batch_size = 1 if predict_batch is None else DEFAULT_MAX_BATCH_SIZE
    predict = model.predict if isinstance(model, MLModel) else _predict_of_ml_base(model)
    predict_stream = getattr(model, "predict_stream", None)
    if not callable(predict_stream):
        predict_stream = None
    input_schema = _json_schema(model.input_schema, f"{name}_input")
    description = ModelDescription(
        display_name=str(model.display_name),
        qualified_name=name,
        description=str(model.description),
        major_version=major_version,
        minor_version=minor_version,
        input_schema=input_schema,
        output_schema=_json_schema(model.output_schema, f"{name}_output"),
        slots=entry.slots,
        retry=entry.retry,
        timeout_s=entry.timeout_s,
        max_batch_size=max_batch_size,
        batch_wait_ms=entry.batch_wait_ms,
        batches_ahead=entry.batches_ahead,
        max_streams=entry.max_streams,
        examples=_examples(getattr(model, "input_examples", None) or input_schema.get("examples", ()), predict, name),
        procedures=_procedures(name, str(model.display_name), "rows" if predict_stream is None else "data"),
        entry=entry.model_dump(exclude_unset=True),
    )
    return HostedModel(description, predict, predict_batch, predict_stream)


def _procedures(name: str, title: str, streamed: str) -> list[ProcedureDescription]:
    """What can be called of a model; `streamed` names what its stream is made of."""
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


def _predict_batch(model: Any) -> Callable[[list[Any]], list[Any]] | None:
    """The model's own `predict_batch`, with a check of how many outputs it returns.

    A model of the ml-base package has its rows validated one by one, so it gets them so.
    """
    function = getattr(model, "predict_batch", None)
    if not isinstance(model, MLModel) or not callable(function):
        return None

    def predict_batch(rows: list[Any]) -> list[Any]:
        outputs: list[Any] = list(function(rows))
        if len(outputs) != len(rows):
            raise ValueError(f"predict_batch returned {len(outputs)} outputs for {len(rows)} rows")
        return outputs

    return predict_batch


def _version(entry: ModelEntry, model: Any) -> tuple[int, int]:
    if isinstance(model, MLModel):
        return int(model.major_version), int(model.minor_version)
    parts = str(model.version).split(".")  # ml_base: "major.minor.patch"
    if len(parts) < 2 or not all(part.isdecimal() for part in parts[:2]):
        raise ConfigError(f"{_where(entry)}: the version {model.version!r} should start with major.minor")
    return int(parts[0]), int(parts[1])


def _json_schema(schema: object, identifier: str) -> dict[str, Any]:
    """A model's schema as JSON Schema; one that says nothing is the schema that accepts everything, {}."""
    if isinstance(schema, Schema):
        made = schema.json_schema(identifier)
    elif isinstance(schema, type) and issubclass(schema, BaseModel):
        made = schema.model_json_schema()
    else:
        made = {}
    plain: dict[str, Any] = json.loads(json.dumps(made, default=str))
    return plain


def _examples(inputs: Iterable[Any], predict: Callable[[Any], Any], name: str) -> list[dict[str, Any]]:
    """What the model makes of its example inputs, as far as that can be shown as JSON."""
    examples: list[dict[str, Any]] = []
    for given in inputs:
        if len(examples) == MAX_EXAMPLES:
            break
        try:
            output = msgpack.unpackb(msgpack.packb(predict(given), default=plain), strict_map_key=False)
            text = json.dumps({"input": given, "output": output}, allow_nan=False)
            if len(text) > MAX_EXAMPLE_LENGTH:
                raise ValueError(f"as JSON it is longer than {MAX_EXAMPLE_LENGTH} characters")
            example = json.loads(text)  # whose keys are text
            msgpack.packb(example)  # as READY will
        except Exception as error:
            log.warning("%s: an example is left out: %s: %s", name, type(error).__name__, error)
        else:
            examples.append(example)
    return examples


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
