"""Packs what models return, so that a stock ZeroRPC client can read it.

A stock Python client decodes with msgpack's defaults: it drops an event in which the key of a map is neither text nor
bytes (`strict_map_key`), and its caller waits until the time-out. So such a key is an error here.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable
from typing import Any

import msgpack

MAX_DEPTH = 500
"""Deepest nesting of a result. msgpack's packer gives up at 511, and the event adds three."""

_LEAVES = frozenset((type(None), bool, int, float, str, bytes))


class Packer:
    """Packs results. One thread at a time may use it."""

    __slots__ = ("_pack",)

    def __init__(self) -> None:
        self._pack: Callable[[Any], bytes] = msgpack.Packer(default=_plain).pack

    def pack(self, result: Any) -> bytes:
        """Pack a result. numpy's scalars and arrays, and whatever has `tolist`, become plain values.

        Raises:
            TypeError, OverflowError, ValueError: if a stock client could not read the result. The text names the part
                of the result, and is fit for the caller.
        """
        cause: Exception = TypeError("the model's result cannot be sent")
        try:
            if _has_text_keys(result):
                return self._pack(result)
        except Exception as error:
            cause = error
        _explain(result)
        raise cause  # not expected: _explain has found nothing wrong


def _plain(value: Any) -> Any:
    """Convert a value that msgpack does not know, for its packer."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(type(value).__name__)


def _has_text_keys(value: Any) -> bool:
    """Whether all keys of all maps are text or bytes. What holds only plain values takes one step."""
    kind = type(value)
    if kind in _LEAVES:
        return True
    if kind is not dict and kind is not list and kind is not tuple:
        return _has_other_text_keys(value)
    parts: Iterable[Any] = value
    if kind is dict:
        for key in value:
            if type(key) is not str and not isinstance(key, (str, bytes)):
                return False
        parts = value.values()
    return _LEAVES.issuperset(map(type, parts)) or all(map(_has_text_keys, parts))


def _has_other_text_keys(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, (str, bytes)) for key in value) and all(map(_has_text_keys, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_has_text_keys, value))
    if hasattr(value, "tolist"):
        holds_objects = getattr(getattr(value, "dtype", None), "hasobject", True)  # False for an array of numbers
        return not holds_objects or _has_text_keys(value.tolist())
    return True


def _explain(value: Any, path: str = "", depth: int = 0) -> None:
    """Raise for the first part of a result that cannot be sent."""
    where = f"the model's result{path}"
    if depth > MAX_DEPTH:
        raise ValueError(f"the model's result is nested too deep: at most {MAX_DEPTH} levels are sent")
    if isinstance(value, dict):
        for key, part in value.items():
            if not isinstance(key, (str, bytes)):
                raise TypeError(
                    f"{where} has the key {reprlib.repr(key)} of type {type(key).__name__}: "
                    "keys should be text, as clients can read no others"
                )
            _explain(key, path, depth)
            _explain(part, f"{path}[{reprlib.repr(key)}]", depth + 1)
    elif isinstance(value, (list, tuple)) and not isinstance(value, msgpack.ExtType):
        for position, part in enumerate(value):
            _explain(part, f"{path}[{position}]", depth + 1)
    elif hasattr(value, "tolist"):
        _explain(value.tolist(), path, depth + 1)
    elif isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        raise OverflowError(f"{where} is an integer beyond 64 bits, which msgpack cannot carry")
    else:
        _explain_leaf(value, where)


def _explain_leaf(value: Any, where: str) -> None:
    try:
        msgpack.packb(value)
    except UnicodeEncodeError as error:
        raise ValueError(f"{where} is text that UTF-8 cannot carry: {error.reason}") from error
    except Exception as error:
        raise TypeError(
            f"{where} is of type {type(value).__name__!r}, which msgpack cannot carry: "
            "a model should return numbers, text, bytes, lists and dictionaries"
        ) from error
