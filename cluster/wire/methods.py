"""What a stock ZeroRPC server says of itself: its name, its methods, their texts. Nothing of it is trusted.

The shapes are those of zerorpc-python's `ServerBase._inject_builtins` and zerorpc-node's `Server`.
"""

from collections.abc import Iterable
from typing import Any

from cluster.wire.texts import MAX_NAME_LENGTH, is_line, to_line, to_text

MAX_METHODS = 4000
"""Most methods of one server."""

MAX_NAME_BYTES = 1024
MAX_DOC_BYTES = 64 * 1024
MAX_LIST_BYTES = MAX_METHODS * 160
MAX_INSPECTION_BYTES = 1024 * 1024
"""Longest answers of a server about itself, in bytes: its name, one docstring, its methods, all of that at once."""

MAX_DOCS_LENGTH = 256 * 1024
"""Most characters of all docstrings of one server."""

_MAX_ARGS = 100


class MethodsError(Exception):
    """An answer that cannot be used; the text says why."""


def read_service_name(value: object) -> str:
    """Check the answer to `_zerorpc_name`.

    Raises:
        MethodsError: if it is not a name.
    """
    if not _is_short_line(value):
        raise MethodsError(f"its name should be a line of 1 to {MAX_NAME_LENGTH} printable characters")
    return str(value)


def read_method_names(value: object) -> tuple[list[str], int]:
    """Check the answer to `_zerorpc_list`.

    Returns:
        The names that can be used, and how many others there are.

    Raises:
        MethodsError: if it is not a list, or is too long.
    """
    if not isinstance(value, list):
        raise MethodsError("_zerorpc_list should return a list")
    return _usable(value)


def read_inspection(value: object) -> tuple[str, dict[str, tuple[str, list[str]]], int]:
    """Check the answer to `_zerorpc_inspect`.

    Returns:
        The name of the service; the docstring and the parameters of each method whose name can be used; and how many
        other methods there are.

    Raises:
        MethodsError: if it has another form.
    """
    if not isinstance(value, dict) or not isinstance(value.get("methods"), dict):
        raise MethodsError("_zerorpc_inspect should return a map with methods")
    methods = value["methods"]
    names, unusable = _usable(methods)
    return read_service_name(value.get("name")), {name: _described(methods[name]) for name in names}, unusable


def read_doc(value: object) -> str:
    """Return a docstring that may be printed; empty if there is none."""
    return to_text(value).strip() if isinstance(value, str) else ""


def _described(value: object) -> tuple[str, list[str]]:
    if not isinstance(value, dict):
        return "", []
    return read_doc(value.get("doc")), _args(value.get("args"))


def _args(value: object) -> list[str]:
    """Return the names of parameters, which a server may leave out or give as maps."""
    if not isinstance(value, list) or len(value) > _MAX_ARGS:
        return []
    names: list[Any] = [one.get("name") if isinstance(one, dict) else one for one in value]
    if not all(_is_short_line(name) for name in names):
        return []
    return [to_line(name) for name in names if name != "self"]


def _usable(names: Iterable[object]) -> tuple[list[str], int]:
    usable: dict[str, None] = {}
    count = 0
    for count, name in enumerate(names, start=1):
        if count > MAX_METHODS:
            raise MethodsError(f"it has more than {MAX_METHODS} methods: divide them among several servers")
        if _is_short_line(name) and not str(name).startswith("_"):
            usable[str(name)] = None
    return list(usable), count - len(usable)


def _is_short_line(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= MAX_NAME_LENGTH and is_line(value)
