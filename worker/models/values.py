"""What models return, as values that msgpack can carry."""

from typing import Any


def plain(value: Any) -> Any:
    """What msgpack cannot pack, as plain values: numpy's scalars and arrays, for which models need no conversion.

    For the `default` of msgpack's packer.

    Raises:
        OverflowError, TypeError: if it has none; the text is fit for the caller.
    """
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, int):
        raise OverflowError("the model returned an integer that does not fit 64 bits, which msgpack cannot carry")
    raise TypeError(
        f"the model returned a value of type {type(value).__name__!r}, which msgpack cannot carry: "
        "it should return numbers, text, bytes, lists and dictionaries"
    )
