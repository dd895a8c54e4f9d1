"""Runs a model's example inputs once, so that the cluster's documents can show inputs with their outputs."""

import json
import logging
from collections.abc import Callable
from typing import Any

import msgpack

from worker.models.packing import Packer

log = logging.getLogger(__name__)

MAX_EXAMPLES = 3
"""Most examples of one model."""

MAX_EXAMPLE_LENGTH = 4_000
"""Longest example, input and output together, in characters of JSON."""


def run_examples(inputs: object, predict: Callable[[Any], Any], name: str) -> list[dict[str, Any]]:
    """Predict from example inputs. An example that fails, or that JSON cannot carry, is left out and logged.

    Args:
        inputs: the model's example inputs, a list or a tuple.
        predict: the model's.
        name: the model's, for the log.

    Returns:
        Maps of `input` and `output`, of JSON's values.
    """
    examples: list[dict[str, Any]] = []
    if not isinstance(inputs, (list, tuple)):
        log.warning("%s: its examples should be a list, not %s", name, type(inputs).__name__)
        return examples
    for given in inputs:
        if len(examples) == MAX_EXAMPLES:
            break
        try:
            output = msgpack.unpackb(Packer().pack(predict(given)))
            text = json.dumps({"input": given, "output": output}, allow_nan=False)
            if len(text) > MAX_EXAMPLE_LENGTH:
                raise ValueError(f"as JSON it is longer than {MAX_EXAMPLE_LENGTH} characters")
            example = json.loads(text)  # turns the keys of dictionaries into strings
            msgpack.packb(example)  # READY packs it, and must not fail
        except Exception as error:
            log.warning("%s: left out an example: %s: %s", name, type(error).__name__, error)
        else:
            examples.append(example)
    return examples
