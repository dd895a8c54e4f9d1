"""ZeroMQ's own proxy, in C: clients at the first address, workers at the second."""

import sys

import zmq


def main() -> None:
    """Pass messages on until killed."""
    context = zmq.Context()
    frontend, backend = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    for router, address in zip((frontend, backend), sys.argv[1:], strict=True):
        router.sndhwm = router.rcvhwm = 0
        router.bind(address)
    zmq.proxy(frontend, backend)


if __name__ == "__main__":
    main()
