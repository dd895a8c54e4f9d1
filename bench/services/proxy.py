"""ZeroMQ's own proxy, in C. Clients connect to the first address, workers to the second."""

import sys

import zmq


def main() -> None:
    """Forward messages until killed."""
    context = zmq.Context()
    frontend, backend = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    for router, address in zip((frontend, backend), sys.argv[1:], strict=True):
        router.sndhwm = router.rcvhwm = 0
        router.bind(address)
    zmq.proxy(frontend, backend)


if __name__ == "__main__":
    main()
