"""A worker that speaks a version of the protocol that is still to come: everything else in it is the real one."""

from cluster.wire import protocol

protocol.VERSION = 99

from worker.__main__ import main  # noqa: E402 - after the version was changed

if __name__ == "__main__":
    main()
