"""Endpoints: parsed, written and resolved."""

import socket

import pytest

from zmtp.endpoint import Endpoint, IpcEndpoint, TcpEndpoint, parse_endpoint, resolve


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("tcp://127.0.0.1:4242", TcpEndpoint("127.0.0.1", 4242)),
        ("tcp://*:4242", TcpEndpoint("*", 4242)),
        ("tcp://[::1]:0", TcpEndpoint("::1", 0)),
        ("tcp://broker.local:65535", TcpEndpoint("broker.local", 65535)),
        ("ipc:///run/broker.sock", IpcEndpoint("/run/broker.sock")),
        ("ipc://broker.sock", IpcEndpoint("broker.sock")),
    ],
)
def test_an_endpoint_is_parsed_and_written_again(text: str, endpoint: Endpoint) -> None:
    assert parse_endpoint(text) == endpoint
    assert str(endpoint) == text


@pytest.mark.parametrize(
    "text", ["", "tcp://", "tcp://:1", "tcp://host", "tcp://host:", "tcp://host:x", "tcp://host:65536", "inproc://a"]
)
def test_a_malformed_endpoint_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=f"should be tcp://host:port or ipc://path, not '{text}'"):
        parse_endpoint(text)


def test_an_endpoint_is_resolved_to_its_family_and_address() -> None:
    assert resolve(parse_endpoint("tcp://localhost:1")) == (socket.AF_INET, ("127.0.0.1", 1))
    assert resolve(parse_endpoint("tcp://[::1]:1")) == (socket.AF_INET6, ("::1", 1, 0, 0))
    assert resolve(parse_endpoint("ipc:///a/b")) == (socket.AF_UNIX, "/a/b")
