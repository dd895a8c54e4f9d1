"""What the broker and the workers have in common: the wire, settings, logs and the HTTP endpoint."""

__version__ = "0.1.0"
