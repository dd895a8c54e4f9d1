"""Tries a model without a cluster: loads it as a worker does, predicts, and checks what a client would get.

    scripts/try_model.py iris_model.iris_predict:IrisModel
    scripts/try_model.py iris_model.iris_predict:IrisModel '{"sepal_length": 5.1, ...}'

Without an input, the model's `input_examples` are tried. The exit code is 1 if anything would fail.
"""

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import msgpack

sys.path.insert(0, str(Path.cwd()))  # a model that is not installed may lie in the folder where the command is run

from cluster.runtime.settings import ConfigError
from scripts.arguments import model_class, setting
from worker.jobs.prediction import ok_event
from worker.models.adapting import adapt
from worker.models.entry import ModelEntry, parse_entry
from worker.models.finding import find_class
from worker.models.loaded_model import LoadedModel
from worker.models.packing import Packer

MOST_ITEMS = 5
"""How many items of a stream are shown."""

_MOST_SHOWN = 200
_BATCH_ROWS = 3


class Report:
    """Lines of what was tried, with how long it took.

    Attributes:
        failures: how many tries have failed.
    """

    def __init__(self) -> None:
        self.failures = 0

    def run(self, what: str, do: Callable[[], Any]) -> Any:
        """Do something, and print a line about it. Returns what it returned; None if it raised."""
        started_s = time.perf_counter()
        try:
            result = do()
        except Exception as error:
            self.fail(what, f"{type(error).__name__}: {error}")
            traceback.print_exc(limit=-3, file=sys.stdout)
            return None
        self._line("ok", what, time.perf_counter() - started_s, _short(result))
        return result

    def fail(self, what: str, reason: str) -> None:
        """Print that something would fail."""
        self.failures += 1
        self._line("FAILS", what, None, reason)

    @staticmethod
    def _line(verdict: str, what: str, seconds: float | None, text: str) -> None:
        took = "" if seconds is None else f"{1000 * seconds:.1f} ms"
        print(f"{verdict:<6} {what:<16} {took:>10}  {text}".rstrip(), flush=True)


def main() -> None:
    """Try a model; the exit code is 1 if anything would fail."""
    options = _parser().parse_intermixed_args()
    report = Report()
    try:
        entry = parse_entry({"module_name": options.model[0], "class_name": options.model[1], **dict(options.set)})
        found = find_class(entry)
        made = report.run("__init__", lambda: _Quiet(found()))
        if made is None:
            sys.exit(1)
        loaded = adapt(entry, made.value)
    except ConfigError as error:
        sys.exit(f"error: {error}")
    _try(report, made.value, loaded, entry, options.inputs)
    if report.failures:
        sys.exit(f"error: {report.failures} of these would fail in the cluster")
    print("all of this works in the cluster, too")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODULE:CLASS", type=model_class, help="the model's class")
    parser.add_argument("inputs", metavar="JSON", nargs="*", type=_json, help="inputs to predict from")
    parser.add_argument(
        "--set", metavar="NAME=VALUE", action="append", default=[], type=setting, help="a setting of the model's entry"
    )
    return parser


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON: {error}") from error


class _Quiet:
    """Holds a value that is not shown."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return type(self.value).__name__


def _try(report: Report, model: Any, loaded: LoadedModel, entry: ModelEntry, inputs: list[Any]) -> None:
    description = loaded.description
    name, version = description.key
    print(f"       {name} {version} from {entry.module_name}:{entry.class_name}")
    print(f"       procedures: {', '.join(one.name for one in description.procedures)}")
    inputs = inputs or list(getattr(model, "input_examples", None) or description.input_schema.get("examples", []))
    if not inputs:
        report.fail("inputs", "there are none: give one as JSON, or let the model have input_examples")
        return
    for position, data in enumerate(inputs):
        _validate(report, f"input {position}", model.input_schema, data)
        output = report.run(f"predict {position}", partial(_predict, loaded, data))
        if output is not None:
            _validate(report, f"output {position}", model.output_schema, output)
    if loaded.predict_batch is not None:
        _try_batch(report, loaded, inputs)
    if loaded.predict_stream is not None:
        stream = loaded.predict_stream
        report.run("predict_stream", lambda: _items(stream(_as_worker(inputs[0]))))


def _predict(loaded: LoadedModel, data: Any) -> Any:
    return _as_client(loaded.predict(_as_worker(data)))


def _items(stream: Iterable[Any]) -> list[Any]:
    items = iter(stream)
    shown = [_as_client(item) for item in islice(items, MOST_ITEMS)]
    close = getattr(items, "close", None)
    if close is not None:
        close()
    return shown


def _try_batch(report: Report, loaded: LoadedModel, inputs: list[Any]) -> None:
    batch = [inputs[number % len(inputs)] for number in range(max(_BATCH_ROWS, len(inputs)))]
    predict_batch = loaded.predict_batch
    assert predict_batch is not None
    outputs = report.run("predict_batch", lambda: [_as_client(one) for one in predict_batch(_as_worker(batch))])
    if outputs is None:
        return
    for row, output in zip(batch, outputs, strict=True):
        try:
            alone = _predict(loaded, row)
        except Exception as error:
            alone = error
        if alone != output:
            text = f"returns {_short(output)} for {_short(row)}, and predict {_short(alone)}: the two must agree"
            report.fail("predict_batch", text)
            return


def _validate(report: Report, what: str, schema: Any, value: Any) -> None:
    """Check a value against a schema of the library `schema`; the checks of other schemas are the model's own."""
    validate = getattr(schema, "validate", None)
    if validate is None or isinstance(schema, type):
        return
    try:
        validate(value)
    except Exception as error:
        report.fail(what, f"does not fit the schema: {error}")


def _as_worker(value: Any) -> Any:
    """The value as a worker decodes it."""
    return msgpack.unpackb(msgpack.packb(value), strict_map_key=False)


def _as_client(value: Any) -> Any:
    """The value as a stock Python client decodes what a worker has encoded."""
    if isinstance(value, BaseException):
        raise value
    _, _, (decoded,) = msgpack.unpackb(ok_event(Packer().pack(value)))
    return decoded


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}... ({len(text)} characters)"


if __name__ == "__main__":
    main()
