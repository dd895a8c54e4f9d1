"""The real worker, with a protocol version that the broker does not know."""

from cluster.wire import protocol

protocol.VERSION = 99

from worker.__main__ import main  # noqa: E402 - after the version was changed

if __name__ == "__main__":
    main()
