"""A ZeroRPC client for threads (`Client`) and for asyncio (`AsyncClient`), without gevent.

It calls any ZeroRPC server, and knows the errors of the ZeroRPC cluster.
"""

from zerorpc_cluster.async_client import AsyncClient, AsyncStream
from zerorpc_cluster.client import Client, Stream
from zerorpc_cluster.errors import (
    CallTimeoutError,
    ClientClosedError,
    ClientError,
    ConnectionLostError,
    RemoteError,
    StreamMismatchError,
)
from zerorpc_cluster.keys import Keys
from zerorpc_cluster.options import Options

__all__ = [
    "AsyncClient",
    "AsyncStream",
    "CallTimeoutError",
    "Client",
    "ClientClosedError",
    "ClientError",
    "ConnectionLostError",
    "Keys",
    "Options",
    "RemoteError",
    "Stream",
    "StreamMismatchError",
]
