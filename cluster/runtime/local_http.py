"""Reads the HTTP pages of this cluster's processes. It never asks a proxy, whatever `http_proxy` says."""

import urllib.request

opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Opens requests without a proxy."""


def read_page(address: str, path: str, timeout_s: float = 5.0) -> bytes:
    """Return the body of a page.

    Args:
        address: `host:port`.
        path: of the page, from the slash on.
        timeout_s: how long each step may take, in seconds.

    Raises:
        urllib.error.HTTPError: if the status is no success; it has the body.
        OSError: if there is no answer.
    """
    with opener.open(f"http://{address}{path}", timeout=timeout_s) as response:
        body: bytes = response.read()
    return body
