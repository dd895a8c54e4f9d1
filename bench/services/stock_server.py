"""A stock `zerorpc.Server` with the iris model, the usual way to serve one.

stock_server.py bind tcp://127.0.0.1:4342
stock_server.py connect tcp://127.0.0.1:4343     behind a proxy, without heartbeats, which a proxy breaks
"""

import sys

import zerorpc
from iris_model.iris_predict import IrisModel


class Service:
    """The model as a service."""

    def __init__(self) -> None:
        self._model = IrisModel()

    def iris_model_predict(self, data: object) -> object:
        """Predict with the Iris Model."""
        return self._model.predict(data)


def main() -> None:
    """Serve until killed."""
    how, address = sys.argv[1:]
    if how == "bind":
        server = zerorpc.Server(Service())
        server.bind(address)
    else:
        server = zerorpc.Server(Service(), heartbeat=None)
        server.connect(address)
    server.run()


if __name__ == "__main__":
    main()
