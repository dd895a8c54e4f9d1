"""Packs what models return: converts values that msgpack does not know."""

from typing import Any


def pack_default(value: Any) -> Any:
    """Convert a value that msgpack cannot pack into plain ones, such as numpy's scalars and arrays into numbers.

    For the `default` argument of msgpack's packer.

    Raises:
        OverflowError, TypeError: if there is no conversion; the text is fit for the caller.
    """
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, int):
        raise OverflowError("the model returned an integer that does not fit 64 bits, which msgpack cannot carry")
    raise TypeError(
        f"the model returned a value of type {type(value).__name__!r}, which msgpack cannot carry: "
        "it should return numbers, text, bytes, lists and dictionaries"
    )
