"""Arguments that several commands take: a model's class, and a setting of its entry."""

import argparse
import json


def model_class(text: str) -> tuple[str, str]:
    """Parse `module:Class`.

    Raises:
        ArgumentTypeError: if it has another form.
    """
    module_name, colon, class_name = text.partition(":")
    if not (module_name and colon and class_name):
        raise argparse.ArgumentTypeError(f"{text!r} should be module:Class, such as iris_model.iris_predict:IrisModel")
    return module_name, class_name


def setting(text: str) -> tuple[str, object]:
    """Parse `name=value`, where the value is JSON.

    Raises:
        ArgumentTypeError: if it has another form.
    """
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} should be name=value, such as slots=2")
    try:
        return name, json.loads(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {value!r} should be a number, true or false") from error
