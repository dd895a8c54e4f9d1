"""Code that the broker and the workers share: the wire format, and the runtime of a process."""

__version__ = "0.1.0"
