"""Names and texts of workers, which reach logs, terminals and pages: what they may contain, and how much of it."""

import re

MAX_NAME_LENGTH = 128
"""Longest qualified name, procedure name, parameter name or id, in characters."""

MAX_LINE_LENGTH = 256
"""Longest text of one line, such as a display name or a host, in characters."""

MAX_TEXT_LENGTH = 16 * 1024
"""Longest text of several lines, such as the description of a model, in characters."""

# Controls, which move a terminal's cursor or change its state, separators of lines, marks that reverse the direction of
# the text around them, and halves of surrogate pairs. A text may have tabs and newlines.
_SURROGATES = f"{chr(0xD800)}-{chr(0xDFFF)}"  # mypyc takes no literal of them
_UNSAFE = f"\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069{_SURROGATES}"
_UNSAFE_IN_TEXT = re.compile(f"[{_UNSAFE}]")
_UNSAFE_IN_LINE = re.compile(f"[{_UNSAFE}\t\n]")


def is_name(text: str) -> bool:
    """Whether a text may name a model, a procedure or a parameter: an identifier, as Python has it."""
    return text.isidentifier() and len(text) <= MAX_NAME_LENGTH


def is_line(text: str) -> bool:
    """Whether a text fits one line of a log or a terminal, and changes nothing else there."""
    return len(text) <= MAX_LINE_LENGTH and not _UNSAFE_IN_LINE.search(text)


def is_text(text: str) -> bool:
    """Whether a text may be printed. It may have several lines."""
    return len(text) <= MAX_TEXT_LENGTH and not _UNSAFE_IN_TEXT.search(text)


def to_line(text: str) -> str:
    """Return the text as `is_line` wants it: unsafe characters become spaces, and the end is cut off."""
    return _UNSAFE_IN_LINE.sub(" ", text)[:MAX_LINE_LENGTH]


def to_text(text: str) -> str:
    """Return the text as `is_text` wants it: unsafe characters become spaces, and the end is cut off."""
    return _UNSAFE_IN_TEXT.sub(" ", text.replace("\r\n", "\n"))[:MAX_TEXT_LENGTH]
